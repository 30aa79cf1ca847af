"""BigVGAN v2 (GPT-SoVITS v3) and v1.

Source: NVIDIA BigVGAN v2.4 bigvgan.py ``BigVGAN``, ``AMPBlock1/2``; alias_free_activation/torch.
"""

from __future__ import annotations

import torch
from torch import nn

from ..program import ALIAS_FREE_TAPS, Activation, ResidualUnit, Stage, Vocoder
from .hifigan import OUTLINE, put_residual, residual_convs
from .structure import (
    Foreign,
    chained,
    conv1d,
    conv_transpose1d,
    holds_only,
    layers_of,
    precise,
    put_conv,
    require,
    stages_of,
    untouched,
)


def looks_like(module: Foreign) -> bool:
    names = (*OUTLINE, "activation_post")
    return all(isinstance(getattr(module, n, None), nn.Module) for n in names)


def _activation(module: Foreign, path: str, name: str, channels: int) -> Activation:
    require(
        not getattr(module, "fused", False),
        f"{path}: uses the fused CUDA activation, whose edges differ from the PyTorch module; "
        "load the model with use_cuda_kernel=False",
    )
    holds_only(module, path, ("act", "upsample", "downsample"))
    untouched(module, path)
    for attribute in ("act", "upsample", "downsample"):
        part = getattr(module, attribute, None)
        require(isinstance(part, nn.Module), f"{path}: expected a submodule {attribute}")
    for attribute in ("up_ratio", "down_ratio"):
        ratio = getattr(module, attribute, 2)
        require(ratio == 2, f"{path}.{attribute}: expected 2, got {ratio}")
    _filter(module.upsample, f"{path}.upsample")
    holds_only(module.downsample, f"{path}.downsample", ("lowpass",))
    untouched(module.downsample, f"{path}.downsample")
    _filter(getattr(module.downsample, "lowpass", None), f"{path}.downsample.lowpass")
    act = module.act
    have = {name for name, _ in act.named_parameters(recurse=False)}
    require(
        "alpha" in have and have <= {"alpha", "beta"},
        f"{path}.act: expected parameters alpha or alpha and beta, got {sorted(have)}",
    )
    holds_only(act, f"{path}.act", (), have)
    untouched(act, f"{path}.act")
    require(
        isinstance(getattr(act, "alpha_logscale", None), bool),
        f"{path}.act: expected a flag alpha_logscale",
    )
    for parameter in sorted(have):
        count = getattr(act, parameter).numel()
        require(count == channels, f"{path}.act.{parameter}: expected {channels}, got {count}")
    return Activation("snake", name=name)


def _filter(module: Foreign, path: str) -> None:
    taps = getattr(module, "filter", None)
    require(
        isinstance(module, nn.Module)
        and isinstance(taps, torch.Tensor)
        and taps.numel() == ALIAS_FREE_TAPS,
        f"{path}: expected a filter of {ALIAS_FREE_TAPS} taps",
    )
    holds_only(module, path, (), ("filter",))
    untouched(module, path)


def _branch(block: Foreign, path: str, name: str, channels: int) -> tuple[ResidualUnit, ...]:
    holds_only(block, path, ("convs", "convs1", "convs2", "activations"))
    untouched(block, path)
    given = layers_of(block, "activations", path)
    units, used = [], 0
    for i, names in enumerate(residual_convs(block, path)):
        convs, activations = [], []
        for j, attribute in enumerate(names):
            where = f"{path}.{attribute}"
            conv = conv1d(block.get_submodule(attribute), where, f"{name}.units.{i}.convs.{j}")
            require(
                chained(channels, conv, where) == channels, f"{where}: changes the channel count"
            )
            convs.append(conv)
            require(
                used < len(given),
                f"{path}: has {len(given)} activations, too few for its convolutions",
            )
            activation_name = f"{name}.units.{i}.activations.{j}"
            where = f"{path}.activations.{used}"
            activations.append(_activation(given[used], where, activation_name, channels))
            used += 1
        units.append(ResidualUnit(tuple(activations), tuple(convs)))
    require(used == len(given), f"{path}: has {len(given)} activations for {used} convolutions")
    return tuple(units)


def _activations(module: Foreign, vocoder: Vocoder) -> list[tuple[str, Foreign]]:
    """Every activation's name and module, in order."""
    out = []
    for i, stage in enumerate(vocoder.stages):
        for j, branch in enumerate(stage.branches):
            block = module.resblocks[i * len(stage.branches) + j]
            names = [a.name for unit in branch for a in unit.activations]
            out += list(zip(names, block.activations))
    return [*out, (vocoder.activation_post.name, module.activation_post)]


def describe(module: Foreign) -> Vocoder:
    holds_only(module, "", (*OUTLINE, "activation_post"))
    ups, kernels = stages_of(module)
    head = conv1d(module.conv_pre, "conv_pre", "head")
    channels, stages = head.C_out, []
    for i in range(ups):
        layers = module.ups[i]
        if isinstance(layers, nn.ModuleList):
            require(len(layers) == 1, f"ups.{i}: expected one layer, got {len(layers)}")
            layers = layers[0]
        up = conv_transpose1d(layers, f"ups.{i}.0", f"stages.{i}.up")
        channels = chained(channels, up, f"ups.{i}.0")
        branches = tuple(
            _branch(
                module.resblocks[i * kernels + j],
                f"resblocks.{i * kernels + j}",
                f"stages.{i}.branches.{j}",
                channels,
            )
            for j in range(kernels)
        )
        stages.append(Stage(Activation(), up, branches))
    post = _activation(module.activation_post, "activation_post", "activation_post", channels)
    conv_post = conv1d(module.conv_post, "conv_post", "conv_post")
    require(
        chained(channels, conv_post, "conv_post") == 1,
        f"conv_post: expected 1 output channel, got {conv_post.C_out}",
    )
    end = "tanh" if getattr(module, "use_tanh_at_final", True) else "clamp"
    vocoder = Vocoder("bigvgan", head, None, tuple(stages), post, conv_post, end)
    _same_filters(module, vocoder)
    return vocoder


def _same_filters(module: Foreign, vocoder: Vocoder) -> None:
    """Kernels take one pair of filters for the whole vocoder."""
    first = module.activation_post
    for name, activation in _activations(module, vocoder):
        same = torch.equal(activation.upsample.filter, first.upsample.filter) and torch.equal(
            activation.downsample.lowpass.filter, first.downsample.lowpass.filter
        )
        require(same, f"{name}: its anti-aliasing filters differ from activation_post's")


def extract(module: Foreign, vocoder: Vocoder) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    put_conv(weights, "head", module.conv_pre)
    for i, layers in enumerate(module.ups):
        layer = layers[0] if isinstance(layers, nn.ModuleList) else layers
        put_conv(weights, f"stages.{i}.up", layer)
    put_residual(weights, module, vocoder)
    for name, activation in _activations(module, vocoder):
        act = activation.act
        alpha = precise(act.alpha.detach())
        beta = precise(act.beta.detach()) if hasattr(act, "beta") else alpha
        if act.alpha_logscale:
            alpha, beta = alpha.exp(), beta.exp()
        tiny = getattr(act, "no_div_by_zero", 1e-9)
        weights[f"{name}.alpha"] = alpha.flatten()
        weights[f"{name}.inv_beta"] = (1.0 / (beta + tiny)).flatten()
    post = module.activation_post
    weights["filter.up"] = post.upsample.filter.detach().flatten()
    weights["filter.down"] = post.downsample.lowpass.filter.detach().flatten()
    put_conv(weights, "conv_post", module.conv_post)
    return weights
