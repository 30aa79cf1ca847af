"""Launches of real vocoders (v4 HiFi-GAN, v3 BigVGAN) on tensors without storage."""

from __future__ import annotations

from typing import Any, Callable

import torch

from vocoder_kernels.ops.alias_free import AliasFreeDesc
from vocoder_kernels.ops.head import HeadDesc
from vocoder_kernels.ops.registry import operation
from vocoder_kernels.ops.residual_conv import ResidualConvDesc
from vocoder_kernels.ops.support import Target
from vocoder_kernels.ops.tail import TailDesc
from vocoder_kernels.ops.upsample import UpsampleDesc

F32 = torch.float32


def meta(*shape: int, dtype: torch.dtype = F32) -> torch.Tensor:
    return torch.empty(shape, dtype=dtype, device="meta")


def ranges(B: int) -> torch.Tensor:
    return meta(B, 2, dtype=torch.int32)


def launch(desc: Any, B: int, frames: int, target: Target) -> None:
    """The launch of ``desc`` for B windows of ``frames`` frames, with the configuration chosen for it."""
    RECIPES[type(desc)](desc, B, frames, target)


def _residual_conv(d: ResidualConvDesc, B: int, frames: int, target: Target) -> None:
    op, n, T = operation("residual_conv"), d.branches, frames * d.scale
    x = [meta(B, T, d.C_in, dtype=d.dtype)] * n
    y32 = [meta(B, T, d.C_out)] * n
    op.launch(
        d, op.choose_config(d, B, T, target), x, meta(sum(d.K), d.C_in, d.C_out, dtype=d.dtype),
        meta(n, d.C_out), y32, ranges(B), y32, [meta(B, T, d.C_out, dtype=d.dtype)] * n,
    )  # fmt: skip


def _upsample(d: UpsampleDesc, B: int, frames: int, target: Target) -> None:
    op, T = operation("upsample"), frames * d.scale
    x = [meta(B, T, d.C_in, dtype=F32 if d.inputs else d.dtype)] * max(1, d.inputs)
    shape = (B, T * d.stride, d.C_out)
    op.launch(
        d, op.choose_config(d, B, T, target), x, meta(d.taps, d.C_in, d.stride * d.C_out, dtype=d.dtype),
        meta(d.C_out), ranges(B), meta(*shape) if d.stream else None,
        meta(*shape, dtype=d.dtype) if d.activated else None,
    )  # fmt: skip


def _head(d: HeadDesc, B: int, frames: int, target: Target) -> None:
    op = operation("head")
    op.launch(
        d, op.choose_config(d, B, frames, target), meta(B, d.C_in, frames, dtype=d.dtype),
        meta(d.K, d.C_in, d.C_out, dtype=d.dtype), meta(d.C_out), meta(B, d.C_out), ranges(B), ranges(B),
        meta(B, frames, d.C_out, dtype=d.dtype),
    )  # fmt: skip


def _alias_free(d: AliasFreeDesc, B: int, frames: int, target: Target) -> None:
    op, n, T = operation("alias_free"), d.tensors, frames * d.scale
    weights = [meta(d.C)] * n
    op.launch(
        d, op.choose_config(d, B, T, target), [meta(B, T, d.C, dtype=d.dtype_in)] * n, weights, weights,
        meta(24), ranges(B), [meta(B, T, d.C, dtype=d.dtype)] * n,
    )  # fmt: skip


def _tail(d: TailDesc, B: int, frames: int, target: Target) -> None:
    op, T = operation("tail"), frames * d.scale
    op.launch(
        d, op.choose_config(d, B, T, target), [meta(B, T, d.C_in, dtype=d.dtype_in)] * d.inputs,
        meta(d.K, d.C_in), meta(1), ranges(B), meta(B, T, dtype=torch.float16),
    )  # fmt: skip


RECIPES: dict[type, Callable[[Any, int, int, Target], None]] = {
    ResidualConvDesc: _residual_conv,
    UpsampleDesc: _upsample,
    HeadDesc: _head,
    AliasFreeDesc: _alias_free,
    TailDesc: _tail,
}


def layers(dtype: torch.dtype, precision: str | None = None) -> dict[str, Any]:
    """Descriptions of every kind of wide layer in v4 and v3, and of the narrow ones that Triton runs
    where there are no CUDA C++ kernels."""
    p = {"precision": precision} if precision else {}
    K, first, second = (11, 7, 3), (3, 3, 3), (1, 1, 1)
    act = {"slope": 0.1, "activated": True}
    return {
        "v4 head": HeadDesc(100, 512, 7, dtype, slope=0.1, **p),
        "v2 head": HeadDesc(192, 512, 7, dtype, cond=True, slope=0.1, **p),
        "v4 up 0": UpsampleDesc(512, 256, 20, 10, 5, dtype, activated=True, slope_out=0.1, **p),
        "v4 up 1": UpsampleDesc(
            256, 128, 12, 6, 3, dtype, 3, 0.1, 0.1, activated=True, scale=10, **p
        ),
        "v4 up 3": UpsampleDesc(
            64, 32, 4, 2, 1, dtype, 3, 0.1, 0.1, activated=True, scale=120, **p
        ),
        "v3 up 1": UpsampleDesc(768, 384, 8, 4, 2, dtype, 3, scale=4, **p),
        "v3 up 5": UpsampleDesc(48, 24, 4, 2, 1, dtype, 3, scale=128, **p),
        "v4 C256 first": ResidualConvDesc(256, 256, K, first, dtype, scale=10, **act, **p),
        "v4 C256 second": ResidualConvDesc(
            256, 256, K, second, dtype, residual=True, stream=True, scale=10, **act, **p
        ),
        "v4 C128 second": ResidualConvDesc(
            128, 128, K, second, dtype, residual=True, stream=True, scale=60, **act, **p
        ),
        "v3 C768 first": ResidualConvDesc(768, 768, K, first, dtype, scale=4, **p),
        "v3 C384 second": ResidualConvDesc(
            384, 384, K, second, dtype, residual=True, stream=True, activated=False, scale=16, **p
        ),
        "v3 C48 second": ResidualConvDesc(
            48, 48, K, second, dtype, residual=True, stream=True, activated=False, scale=128, **p
        ),
        "v4 C32 first": ResidualConvDesc(32, 32, K, first, dtype, scale=240, **act, **p),
        "v3 C24 first": ResidualConvDesc(24, 24, K, first, dtype, scale=256, **p),
        "v3 C768 snake": AliasFreeDesc(768, 3, dtype, dtype, scale=4),
        "v3 C24 snake": AliasFreeDesc(24, 3, F32, dtype, scale=256),
        "v4 tail": TailDesc(16, 7, 3, F32, slope=0.01, bias=True, scale=480),
        "v3 tail": TailDesc(24, 7, 1, dtype, end="clamp", scale=256),
    }
