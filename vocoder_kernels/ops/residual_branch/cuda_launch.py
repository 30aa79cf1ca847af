"""Whole residual branches on the CUDA core's tensor-core kernel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate

import torch

from ..cuda_core import (
    DTYPE_CODES,
    RESERVED_BYTES,
    STATIC_SHARED_BYTES,
    address,
    core,
    place_of,
    tensor_core_support,
)
from ..residual_unit.pack import pack_weight, packed_size
from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from .desc import ResidualBranchDesc

NAME = "residual_branch"
MOST_BRANCHES = MOST_UNITS = 4
LEAST_WARPS = 8
"""Of a multiprocessor, so that each of its four schedulers has two to choose from."""


@dataclass(frozen=True)
class BranchTile:
    """A CTA computes ``rows`` samples, the branch's halo included, of one branch; bits do not
    depend on it. ``index`` is its place in the core's list for the channel count."""

    index: int
    rows: int
    threads: int
    m_tiles: int
    ctas_per_sm: int


@cache
def _tiles(C: int) -> tuple[BranchTile, ...]:
    return tuple(
        BranchTile(index, 16 * warps_m * m_tiles, 32 * warps_m * warps_n, m_tiles, ctas_per_sm)
        for index, (warps_m, warps_n, m_tiles, ctas_per_sm) in enumerate(core().branch_tiles(C))
    )


def _warps(desc: ResidualBranchDesc, tile: BranchTile, target: Target) -> int:
    """Of a multiprocessor; 0 where a CTA does not fit."""
    needed = STATIC_SHARED_BYTES + core().branch_shared_bytes(desc.C, tile.index, desc.reach)
    if needed > target.shared_bytes:
        return 0
    ctas = min(tile.ctas_per_sm, (target.shared_bytes + RESERVED_BYTES) // needed)
    return ctas * tile.threads // 32


def _fitting(desc: ResidualBranchDesc, target: Target) -> list[BranchTile]:
    """Tiles that keep the multiprocessor busy and spend at least half of their rows on output. The
    largest would not fit into the registers of Turing."""
    return [
        tile
        for tile in _tiles(desc.C)[target.arch < 80 :]
        if _warps(desc, tile, target) >= LEAST_WARPS and tile.rows >= 4 * desc.halo
    ]


def pack(weights: Sequence[Sequence[Sequence[torch.Tensor]]], dtype: torch.dtype) -> torch.Tensor:
    """``weights[j][k][i]``, ``[C, C, K_j]`` of convolution i of branch j's unit k, in kernel order,
    flat."""
    return torch.cat([pack_weight(w, dtype) for branch in weights for unit in branch for w in unit])


def can_run(desc: ResidualBranchDesc, target: Target) -> Support:
    depths = [len(dilation) for dilation in desc.dilation]
    if len(depths) != desc.branches or not 1 <= desc.branches <= MOST_BRANCHES:
        return Support(
            False,
            f"{NAME}: expected 1 to {MOST_BRANCHES} kernel sizes with dilations each, got {desc}",
        )
    if desc.convs not in (1, 2) or not all(1 <= depth <= MOST_UNITS for depth in depths):
        return Support(
            False,
            f"{NAME}: expected 1 to {MOST_UNITS} units of one or two convolutions, got {desc}",
        )
    if any(k % 2 == 0 for k in desc.K):
        return Support(False, f"{NAME}: expected odd kernel sizes, got {desc.K}")
    support = slope_support(NAME, desc.slope) and tensor_core_support(target, desc.dtype)
    if not support:
        return support
    if not _tiles(desc.C):
        return Support(False, f"{NAME}: no kernel for whole branches of {desc.C} channels")
    if not _fitting(desc, target):
        return Support(
            False,
            f"{NAME}: a halo of {desc.halo} samples is too wide for the tiles of {desc.C} channels "
            f"that fit into the {target.shared_bytes} bytes of shared memory of this GPU",
        )
    return Support(True)


def choose_config(desc: ResidualBranchDesc, B: int, T_cap: int, target: Target) -> BranchTile:
    """The tile that is expected to take the least time: half a round of CTAs more than fills the
    multiprocessors, as how far a window is filled is not known, and a row costs the more the fewer
    row tiles share a warp's weights."""

    def cost(tile: BranchTile) -> float:
        ctas = sum(B * -(-T_cap // (tile.rows - 2 * halo)) for halo in desc.halos)
        return (ctas / target.multiprocessors + 0.5) * tile.rows * (1.0 + 0.5 / tile.m_tiles)

    return min(_fitting(desc, target), key=cost)


def launch(
    desc: ResidualBranchDesc,
    config: BranchTile,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    ranges: torch.Tensor,
    outputs: Sequence[torch.Tensor],
) -> None:
    """One fp32 stream per branch in ``inputs`` and ``outputs``; the same input may serve several
    branches, no output may be an input. ``weight`` as packed here; ``bias: [layers, C]`` fp32 in
    the order of the weights."""
    n = desc.branches
    layers = [desc.convs * len(dilation) for dilation in desc.dilation]
    sizes = [count * packed_size(desc.C, k) for count, k in zip(layers, desc.K)]
    first_weights = [0, *accumulate(sizes)]
    first_layers = [0, *accumulate(layers)]
    expect_buffers(NAME, "inputs", inputs, n, desc.C)
    expect_buffers(NAME, "outputs", outputs, n, desc.C)
    expect_shape(NAME, "weight", weight, (first_weights[-1],), desc.dtype)
    expect_shape(NAME, "bias", bias, (desc.layers, desc.C), torch.float32)
    B, T_cap, _ = inputs[0].shape
    core().residual_branch(
        branches=[
            (
                address(inputs[j]),
                address(outputs[j]),
                address(weight) + first_weights[j] * weight.element_size(),
                address(bias) + 4 * first_layers[j] * desc.C,
                desc.K[j],
                list(desc.dilation[j]),
            )
            for j in range(n)
        ],
        ranges=address(ranges),
        B=B,
        T_cap=T_cap,
        C=desc.C,
        convs=desc.convs,
        scale=desc.scale,
        extra=desc.extra,
        slope=desc.slope,
        dtype=DTYPE_CODES[desc.dtype],
        tile=config.index,
        **place_of(ranges),
    )
