"""Checks and readings that the families share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.weight_norm import WeightNorm

from ..program import Conv1d, ConvTranspose1d

Foreign = Any
"""An ``nn.Module`` of a class that is not ours: read by attribute, checked as it is read."""


class Unrecognised(NotImplementedError):
    """The module is not a vocoder we can compute exactly; the message says why."""


def require(condition: bool, reason: str) -> None:
    if not condition:
        raise Unrecognised(reason)


def holds_only(
    module: Foreign, path: str, children: Iterable[str] = (), tensors: Iterable[str] = ()
) -> None:
    """Refuse submodules, parameters and buffers that the family does not have: they would silently
    not be computed."""
    where = path or type(module).__name__
    unknown = sorted(set(module._modules) - set(children) - {"parametrizations"})
    require(not unknown, f"{where}: unknown submodules {', '.join(unknown)}")
    unknown = sorted({*module._parameters, *module._buffers} - set(tensors))
    require(not unknown, f"{where}: unknown parameters or buffers {', '.join(unknown)}")


def untouched(module: Foreign, path: str) -> None:
    """Refuse what was put around a layer inside the vocoder: a fused kernel would skip it."""
    before = [h for h in module._forward_pre_hooks.values() if not _is_weight_norm(h)]
    after = list(module._forward_hooks.values())
    require(not before and not after, f"{path}: has forward hooks, which fused kernels would skip")
    require("forward" not in vars(module), f"{path}: its forward was replaced on the instance")


def layers_of(module: Foreign, name: str, path: str = "") -> list[Foreign]:
    """The layers of the list ``module.name``."""
    where = f"{path}.{name}" if path else name
    layers: Any = getattr(module, name, None)
    require(
        isinstance(layers, (nn.ModuleList, nn.Sequential)),
        f"{where}: expected a ModuleList, got {type(layers).__name__}",
    )
    return list(layers)


def _is_weight_norm(hook: object) -> bool:
    return isinstance(hook, WeightNorm) and hook.name == "weight"


def conv1d(module: Foreign, path: str, name: str) -> Conv1d:
    """Description of a length-preserving ``nn.Conv1d`` at ``path``."""
    require(isinstance(module, nn.Conv1d), f"{path}: expected Conv1d, got {type(module).__name__}")
    _plain(module, path, nn.Conv1d)
    K, dilation = module.kernel_size[0], module.dilation[0]
    require(module.stride[0] == 1, f"{path}: expected stride 1, got {module.stride[0]}")
    require(
        module.padding_mode == "zeros",
        f"{path}: expected zero padding, got {module.padding_mode!r}",
    )
    padding = module.padding
    if padding == "same":
        padding = (dilation * (K - 1) // 2,) if dilation * (K - 1) % 2 == 0 else ("same",)
    require(
        padding not in ("valid", ("same",)) and 2 * padding[0] == dilation * (K - 1),
        f"{path}: kernel {K}, dilation {dilation}, padding {module.padding} changes the length",
    )
    return Conv1d(name, module.in_channels, module.out_channels, K, dilation, _has_bias(module))


def conv_transpose1d(module: Foreign, path: str, name: str) -> ConvTranspose1d:
    """Description of an upsampling ``nn.ConvTranspose1d`` at ``path``."""
    require(
        isinstance(module, nn.ConvTranspose1d),
        f"{path}: expected ConvTranspose1d, got {type(module).__name__}",
    )
    _plain(module, path, nn.ConvTranspose1d)
    require(module.dilation[0] == 1, f"{path}: expected dilation 1, got {module.dilation[0]}")
    require(
        module.output_padding[0] == 0,
        f"{path}: expected output_padding 0, got {module.output_padding[0]}",
    )
    K, stride, padding = module.kernel_size[0], module.stride[0], module.padding[0]
    up = ConvTranspose1d(
        name, module.in_channels, module.out_channels, K, stride, padding, _has_bias(module)
    )
    require(
        up.extra >= 0,
        f"{path}: kernel {K}, stride {stride}, padding {padding} loses samples at the ends",
    )
    return up


def _plain(module: Foreign, path: str, base: type) -> None:
    untouched(module, path)
    for name in ("forward", "_conv_forward", "_output_padding"):
        same = getattr(type(module), name, None) is getattr(base, name, None)
        require(
            same and name not in vars(module),
            f"{path}: {type(module).__name__} overrides {base.__name__}.{name}",
        )
    require(module.groups == 1, f"{path}: expected groups 1, got {module.groups}")


def _has_bias(module: Foreign) -> bool:
    return module.bias is not None


def effective_weight(module: Foreign) -> torch.Tensor:
    """The weight that the forward pass uses: under old-style weight norm ``.weight`` is stale after
    a move or a cast, so it is computed from ``weight_g`` and ``weight_v``, in float32 at least; a
    parametrization computes it on access."""
    if not parametrize.is_parametrized(module, "weight"):
        for hook in module._forward_pre_hooks.values():
            if _is_weight_norm(hook):
                v, g = (precise(p) for p in (module.weight_v, module.weight_g))
                return torch._weight_norm(v, g, hook.dim).detach()
    return module.weight.detach()


def precise(tensor: torch.Tensor) -> torch.Tensor:
    """Half precision as float32, so that what is computed from it is not rounded in between."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def put_conv(weights: dict[str, torch.Tensor], name: str, module: Foreign) -> None:
    """Store a convolution's weight and bias under a layer's name."""
    weights[f"{name}.weight"] = effective_weight(module)
    if module.bias is not None:
        weights[f"{name}.bias"] = module.bias.detach()


def stages_of(module: Foreign) -> tuple[int, int]:
    """Number of upsamplings and of residual blocks after each."""
    ups, blocks = len(layers_of(module, "ups")), len(layers_of(module, "resblocks"))
    require(ups > 0, "ups: expected at least one upsampling")
    require(
        blocks > 0 and blocks % ups == 0,
        f"resblocks: {blocks} blocks cannot be shared evenly by {ups} upsamplings",
    )
    for name, count in (("num_upsamples", ups), ("num_kernels", blocks // ups)):
        declared = getattr(module, name, count)
        require(declared == count, f"{name} is {declared}, but the lists hold {count}")
    return ups, blocks // ups


def chained(before: int, layer: Conv1d | ConvTranspose1d, path: str) -> int:
    """Check that ``layer`` takes ``before`` channels; returns what it gives."""
    require(layer.C_in == before, f"{path}: expected {before} input channels, got {layer.C_in}")
    return layer.C_out
