"""Layers of the real vocoders, and their launches on tensors without meaningful values: for
compilers' reports ("meta" tensors, without storage) and for models of time (CPU tensors)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable

import torch

from vocoder_kernels.modules.presets import PRESETS
from vocoder_kernels.ops.alias_free import AliasFreeDesc
from vocoder_kernels.ops.head import HeadDesc
from vocoder_kernels.ops.registry import operation
from vocoder_kernels.ops.residual_conv import ResidualConvDesc
from vocoder_kernels.ops.support import Target
from vocoder_kernels.ops.tail import TailDesc
from vocoder_kernels.ops.upsample import UpsampleDesc

F32 = torch.float32
WIDEST_FUSED = 96
"""Channels up to which the CUDA core fuses units in half precision, whose streams stay apart."""
OPS = {
    HeadDesc: "head",
    UpsampleDesc: "upsample",
    ResidualConvDesc: "residual_conv",
    AliasFreeDesc: "alias_free",
    TailDesc: "tail",
}


def layers(version: str, dtype: torch.dtype, precision: str = "ieee") -> dict[str, Any]:
    """Descriptions of every kind of layer of a preset when Triton runs all of it, and of the
    upsamplings that read streams when the CUDA core runs the narrow units."""
    preset = PRESETS[version]
    snake, C = "num_mels" in preset, preset["upsample_initial_channel"]
    slope = 1.0 if snake else 0.1
    mels = preset["num_mels" if snake else "initial_channel"]
    how = {"dtype": dtype, "precision": precision}
    C_cond = preset.get("gin_channels", 0)
    head = HeadDesc(mels, C, 7, cond=C_cond > 0, C_cond=C_cond, slope=slope, **how)
    found: dict[str, Any] = {"head": head}
    if C_cond:
        found["head and vector"] = replace(head, C_cond=0)
    here = {"scale": 1, "extra": 0}
    for i, (stride, K) in enumerate(zip(preset["upsample_rates"], preset["upsample_kernel_sizes"])):
        found[f"up{i}"] = up = UpsampleDesc(
            C, C // 2, K, stride, (K - stride) // 2, slope_out=slope, stream=snake,
            activated=not snake, **here, **how,
        )  # fmt: skip
        if C <= WIDEST_FUSED and dtype != F32:
            found[f"up{i} of streams"] = replace(
                up, inputs=3, slope_in=slope, slope_out=1.0, stream=True, activated=False
            )
        C, here = C // 2, {"scale": up.scale_out, "extra": up.extra_out}
        first = ResidualConvDesc(C, C, (11, 7, 3), (3, 3, 3), slope=slope, **here, **how)
        found[f"C{C} first"] = first
        second = replace(
            first, dilation=(1, 1, 1), residual=True, residual_slope=None if snake else slope
        )
        found[f"C{C} second"] = replace(second, stream=snake, activated=not snake)
        found[f"C{C} last"] = replace(second, mean=True)
        if snake:
            found[f"C{C} snake"] = AliasFreeDesc(C, 3, F32, dtype, **here)
            found[f"C{C} second snake"] = AliasFreeDesc(C, 3, dtype, dtype, **here)
    found[f"C{C} last"] = replace(found[f"C{C} last"], stream=True, activated=False, slope=1.0)
    if snake:
        found["last snake"] = AliasFreeDesc(C, 1, F32, dtype, **here)
        found["last snake of streams"] = AliasFreeDesc(C, 1, F32, dtype, mean=3, **here)
    found["tail"] = TailDesc(
        C, 7, 1, dtype if snake else F32, slope=1.0 if snake else 0.01,
        bias=preset.get("is_bias", False), end="clamp" if snake else "tanh", **here,
    )  # fmt: skip
    if not snake:
        found["tail of streams"] = replace(found["tail"], inputs=3)
    return found


class Tensors:
    """Makes the tensors of a launch for B windows of ``frames`` frames, all valid."""

    def __init__(self, B: int, frames: int, device: str = "meta") -> None:
        self.B, self.frames, self.device = B, frames, device

    def __call__(self, *shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
        return torch.zeros(shape, dtype=dtype, device=self.device)

    def buffers(self, n: int, d: Any, C: int, dtype: torch.dtype = F32) -> list[torch.Tensor]:
        """``n`` channels-last buffers at the scale of ``d``."""
        return [self(self.B, self.frames * d.scale + d.extra, C, dtype=dtype) for _ in range(n)]

    def ranges(self) -> torch.Tensor:
        rows = self(self.B, 2, dtype=torch.int32)
        rows[:, 1] = self.frames
        return rows


def launch(
    desc: Any, B: int, frames: int, target: Target, device: str = "meta", config: Any = None
) -> None:
    """The launch of ``desc`` with ``config``, or the configuration chosen for it."""
    op = operation(OPS[type(desc)])
    T = frames * desc.scale + desc.extra
    config = config or op.choose_config(desc, B, T, target)
    op.launch(desc, config, *ARGUMENTS[type(desc)](desc, Tensors(B, frames, device)))


def _residual_conv(d: ResidualConvDesc, make: Tensors) -> tuple[Any, ...]:
    n = d.branches
    return (
        make.buffers(n, d, d.C_in, d.dtype),
        make(sum(d.K), d.C_in, d.C_out, dtype=d.dtype),
        make(n, d.C_out),
        make.buffers(n, d, d.C_out, d.residual_dtype) if d.residual else None,
        make.ranges(),
        make.buffers(d.outputs, d, d.C_out) if d.stream else None,
        make.buffers(d.outputs, d, d.C_out, d.dtype) if d.activated else None,
    )


def _upsample(d: UpsampleDesc, make: Tensors) -> tuple[Any, ...]:
    shape = (make.B, make.frames * d.scale_out + d.extra_out, d.C_out)
    return (
        make.buffers(max(1, d.inputs), d, d.C_in, F32 if d.inputs else d.dtype),
        make(d.taps, d.C_in, d.stride * d.C_out, dtype=d.dtype),
        make(d.C_out),
        make.ranges(),
        make(*shape) if d.stream else None,
        make(*shape, dtype=d.dtype) if d.activated else None,
    )


def _head(d: HeadDesc, make: Tensors) -> tuple[Any, ...]:
    return (
        make(make.B, d.C_in, make.frames, dtype=d.dtype),
        make(d.K, d.C_in, d.C_out, dtype=d.dtype),
        make(d.C_out),
        _condition(d, make),
        make(make.B, 2, dtype=torch.int32),
        make.ranges(),
        *make.buffers(1, d, d.C_out, d.dtype),
        make(d.C_cond, d.C_out, dtype=d.dtype) if d.C_cond else None,
        make(d.C_out) if d.C_cond else None,
    )


def _condition(d: HeadDesc, make: Tensors) -> torch.Tensor | None:
    if d.C_cond:
        return make(make.B, 1, d.C_cond, dtype=d.dtype)
    return make(make.B, d.C_out) if d.cond else None


def _alias_free(d: AliasFreeDesc, make: Tensors) -> tuple[Any, ...]:
    n = d.tensors
    return (
        make.buffers(n * d.mean, d, d.C, d.dtype_in),
        [make(d.C) for _ in range(n)],
        [make(d.C) for _ in range(n)],
        make(24),
        make.ranges(),
        make.buffers(n, d, d.C, d.dtype),
    )


def _tail(d: TailDesc, make: Tensors) -> tuple[Any, ...]:
    return (
        make.buffers(d.inputs, d, d.C_in, d.dtype_in),
        make(d.K, d.C_in),
        make(1),
        make.ranges(),
        make(make.B, make.frames * d.scale + d.extra, dtype=torch.float16),
    )


ARGUMENTS: dict[type, Callable[[Any, Tensors], tuple[Any, ...]]] = {
    ResidualConvDesc: _residual_conv,
    UpsampleDesc: _upsample,
    HeadDesc: _head,
    AliasFreeDesc: _alias_free,
    TailDesc: _tail,
}
