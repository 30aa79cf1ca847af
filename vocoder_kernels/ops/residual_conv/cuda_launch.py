"""Grouped convolutions on the CUDA core's tensor-core kernel."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import torch

from ..cuda_conv import (
    ACTIVATED,
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


def _reach(desc: ResidualConvDesc) -> int:
    return max(d * (k - 1) for k, d in zip(desc.K, desc.dilation))


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
    support = slope_support(NAME, desc.slope) and tensor_core_support(target, desc.dtype)
    if support and not tiles_for(ACTIVATED, _reach(desc)):
        return Support(False, f"{NAME}: a reach of {_reach(desc)} samples exceeds shared memory")
    return support


def choose_config(desc: ResidualConvDesc, B: int, T_cap: int, target: Target) -> ConvTile:
    rows = B * T_cap * desc.branches
    return choose_conv_tile(ACTIVATED, _reach(desc), rows, desc.C_out, target)


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
    """One tensor per branch in every sequence; the same tensor may serve several branches as input
    or residual. ``weight`` as packed here, ``bias: [branches, C_out]`` fp32."""
    n = desc.branches
    sizes = [packed_size(k, desc.C_in, desc.C_out) for k in desc.K]
    expect_buffers(NAME, "inputs", inputs, n, desc.C_in)
    expect_shape(NAME, "weight", weight, (sum(sizes),), desc.dtype)
    if desc.bias and bias is not None:
        expect_shape(NAME, "bias", bias, (n, desc.C_out), torch.float32)
    columns = []
    for argument, used, tensors in (
        ("residuals", desc.residual, residuals),
        ("streams", desc.stream, streams),
        ("activated", desc.activated, activated),
    ):
        if used:
            expect_buffers(NAME, argument, tensors or (), n, desc.C_out)
        columns.append([address(t) for t in tensors or ()] if used else [0] * n)
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
        dtype=DTYPE_CODES[desc.dtype],
        tile=config.index,
        **place_of(ranges),
    )
