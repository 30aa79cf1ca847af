"""Grouped convolutions on the CUDA core's tensor-core kernel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from ..cuda_conv import (
    ACTIVATED,
    SUMMED,
    ConvTile,
    choose_conv_tile,
    pack_fragments,
    packed_size,
    tiles_for,
)
from ..cuda_core import DTYPE_CODES, address, core, place_of, tensor_core_support
from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from .desc import ResidualConvDesc

NAME = "residual_conv"
MOST_BRANCHES = 4


def pack(weights: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Branches' ``[C_out, C_in, K_j]`` to the kernel's order, one branch after the other, flat."""
    return torch.cat([pack_fragments(w.permute(2, 1, 0), dtype) for w in weights])


def _source(desc: ResidualConvDesc) -> int:
    return SUMMED if desc.mean else ACTIVATED


def can_run(desc: ResidualConvDesc, target: Target) -> Support:
    if not desc.stream and not desc.activated:
        return Support(False, f"{NAME}: writes nothing; ask for stream, activated or both")
    if len(desc.dilation) != desc.branches or not 1 <= desc.branches <= MOST_BRANCHES:
        return Support(
            False,
            f"{NAME}: expected 1 to {MOST_BRANCHES} kernel sizes with a dilation each, got {desc}",
        )
    if any(d * (k - 1) % 2 for k, d in zip(desc.K, desc.dilation)):
        return Support(False, f"{NAME}: no symmetric padding keeps the length of {desc}")
    if desc.C_in % 8 or desc.C_out % 4:
        return Support(
            False,
            f"{NAME}: the CUDA C++ kernel takes C_in in eights and C_out in fours, "
            f"got {desc.C_in} and {desc.C_out}",
        )
    if desc.residual_slope is not None and desc.residual_slope <= 0.0:
        return Support(
            False,
            f"{NAME}: no residual is recovered from LeakyReLU of slope {desc.residual_slope}, "
            "which must be above 0",
        )
    slopes = slope_support(NAME, desc.slope) and slope_support(NAME, desc.residual_slope or 1.0)
    support = slopes and tensor_core_support(target, desc.dtype)
    if support and not tiles_for(_source(desc), 2 * desc.halo):
        return Support(False, f"{NAME}: a reach of {2 * desc.halo} samples exceeds shared memory")
    return support


def choose_config(desc: ResidualConvDesc, B: int, T_cap: int, target: Target) -> ConvTile:
    rows = B * T_cap * desc.outputs
    return choose_conv_tile(_source(desc), 2 * desc.halo, rows, desc.C_out, target)


def launch(
    desc: ResidualConvDesc,
    config: ConvTile,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residuals: Sequence[torch.Tensor] | None,
    ranges: torch.Tensor,
    streams: Sequence[torch.Tensor] | None = None,
    activated: Sequence[torch.Tensor] | None = None,
) -> None:
    """One tensor per branch in every sequence, in those of the outputs one for the mean; the same
    tensor may serve several branches as input or residual, and a branch's residual may be its
    output. ``weight`` as packed here, ``bias: [branches, C_out]`` fp32."""
    n = desc.branches
    sizes = [packed_size(k, desc.C_in, desc.C_out) for k in desc.K]
    expect_buffers(NAME, "inputs", inputs, n, desc.C_in)
    expect_shape(NAME, "weight", weight, (sum(sizes),), desc.dtype)
    if desc.bias and bias is not None:
        expect_shape(NAME, "bias", bias, (n, desc.C_out), torch.float32)
    columns = []
    for argument, used, tensors, count in (
        ("residuals", desc.residual, residuals, n),
        ("streams", desc.stream, streams, desc.outputs),
        ("activated", desc.activated, activated, desc.outputs),
    ):
        if used:
            expect_buffers(NAME, argument, tensors or (), count, desc.C_out)
        addresses = [address(t) for t in tensors or ()] if used else []
        columns.append(addresses + [0] * (n - len(addresses)))
    offsets = [0, *accumulate(sizes)]
    B, T_cap, _ = inputs[0].shape
    core().conv(
        branches=[
            (
                address(inputs[j]),
                address(weight) + offsets[j] * weight.element_size(),
                address(bias) + 4 * j * desc.C_out if desc.bias else 0,
                columns[0][j],
                columns[1][j],
                columns[2][j],
                desc.K[j],
                desc.dilation[j],
                -desc.dilation[j] * (desc.K[j] - 1) // 2,
            )
            for j in range(n)
        ],
        ranges=address(ranges),
        B=B,
        T_cap=T_cap,
        C_in=desc.C_in,
        C_out=desc.C_out,
        scale=desc.scale,
        extra=desc.extra,
        slope=desc.slope,
        undo=1.0 / desc.residual_slope if desc.residual_slope else 0.0,
        mean=desc.mean,
        dtype=DTYPE_CODES[desc.dtype],
        tile=config.index,
        **place_of(ranges),
    )
