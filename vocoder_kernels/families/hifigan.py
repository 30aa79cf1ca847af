"""HiFi-GAN ``Generator`` (GPT-SoVITS v1, v2, v2Pro, v2ProPlus, v4; VITS voices).

Source: upstream GPT_SoVITS/module/models.py ``Generator``, module/modules.py ``ResBlock1/2``.
"""

from __future__ import annotations

import torch
from torch import nn

from ..program import Activation, ResidualUnit, Stage, Vocoder
from .structure import (
    Foreign,
    chained,
    conv1d,
    conv_transpose1d,
    holds_only,
    layers_of,
    put_conv,
    require,
    stages_of,
    untouched,
)

LRELU_SLOPE = 0.1
POST_SLOPE = 0.01
OUTLINE = ("conv_pre", "ups", "resblocks", "conv_post")


def looks_like(module: Foreign) -> bool:
    return all(isinstance(getattr(module, n, None), nn.Module) for n in OUTLINE) and not hasattr(
        module, "activation_post"
    )


def residual_convs(block: Foreign, path: str) -> list[tuple[str, ...]]:
    """Attribute paths of the convolutions of each residual unit, resblock "1" or "2"."""
    if hasattr(block, "convs1"):
        require(hasattr(block, "convs2"), f"{path}: has convs1 but no convs2")
        pairs, seconds = (len(layers_of(block, name, path)) for name in ("convs1", "convs2"))
        require(pairs == seconds, f"{path}: {pairs} convs1 but {seconds} convs2")
        units: list[tuple[str, ...]] = [(f"convs1.{i}", f"convs2.{i}") for i in range(pairs)]
    else:
        require(hasattr(block, "convs"), f"{path}: expected convs1 and convs2, or convs")
        units = [(f"convs.{i}",) for i in range(len(layers_of(block, "convs", path)))]
    require(bool(units), f"{path}: has no convolutions")
    return units


def _branch(block: Foreign, path: str, name: str, channels: int) -> tuple[ResidualUnit, ...]:
    holds_only(block, path, ("convs", "convs1", "convs2"))
    untouched(block, path)
    units = []
    for i, names in enumerate(residual_convs(block, path)):
        convs = []
        for j, attribute in enumerate(names):
            where = f"{path}.{attribute}"
            conv = conv1d(block.get_submodule(attribute), where, f"{name}.units.{i}.convs.{j}")
            require(
                chained(channels, conv, where) == channels, f"{where}: changes the channel count"
            )
            convs.append(conv)
        activations = tuple(Activation("leaky_relu", LRELU_SLOPE) for _ in convs)
        units.append(ResidualUnit(activations, tuple(convs)))
    return tuple(units)


def describe(module: Foreign) -> Vocoder:
    holds_only(module, "", (*OUTLINE, "cond"))
    ups, kernels = stages_of(module)
    head = conv1d(module.conv_pre, "conv_pre", "head")
    cond = None
    if getattr(module, "cond", None) is not None:
        cond = conv1d(module.cond, "cond", "cond")
        require(cond.K == 1, f"cond: expected kernel 1, got {cond.K}")
        require(cond.C_out == head.C_out, f"cond: expected {head.C_out} outputs, got {cond.C_out}")
    channels, stages = head.C_out, []
    for i in range(ups):
        up = conv_transpose1d(module.ups[i], f"ups.{i}", f"stages.{i}.up")
        channels = chained(channels, up, f"ups.{i}")
        branches = tuple(
            _branch(
                module.resblocks[i * kernels + j],
                f"resblocks.{i * kernels + j}",
                f"stages.{i}.branches.{j}",
                channels,
            )
            for j in range(kernels)
        )
        stages.append(Stage(Activation("leaky_relu", LRELU_SLOPE), up, branches))
    conv_post = conv1d(module.conv_post, "conv_post", "conv_post")
    require(
        chained(channels, conv_post, "conv_post") == 1,
        f"conv_post: expected 1 output channel, got {conv_post.C_out}",
    )
    post = Activation("leaky_relu", POST_SLOPE)
    return Vocoder("hifigan", head, cond, tuple(stages), post, conv_post, "tanh")


def put_residual(weights: dict[str, torch.Tensor], module: Foreign, vocoder: Vocoder) -> None:
    """Store every residual convolution."""
    for i, stage in enumerate(vocoder.stages):
        for j in range(len(stage.branches)):
            block = module.resblocks[i * len(stage.branches) + j]
            for k, names in enumerate(residual_convs(block, "resblocks")):
                for n, attribute in enumerate(names):
                    name = f"stages.{i}.branches.{j}.units.{k}.convs.{n}"
                    put_conv(weights, name, block.get_submodule(attribute))


def extract(module: Foreign, vocoder: Vocoder) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    put_conv(weights, "head", module.conv_pre)
    if vocoder.cond is not None:
        put_conv(weights, "cond", module.cond)
    for i, up in enumerate(module.ups):
        put_conv(weights, f"stages.{i}.up", up)
    put_residual(weights, module, vocoder)
    put_conv(weights, "conv_post", module.conv_post)
    return weights
