"""Fused residual units on the CUDA core's tensor-core kernel."""

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
from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from .desc import ResidualUnitDesc
from .pack import pack_weight, packed_size

NAME = "residual_unit"
MOST_BRANCHES = 4


@dataclass(frozen=True)
class UnitTile:
    """A CTA computes ``rows`` samples, halo of the second convolution included, of one branch; bits
    do not depend on it. ``index`` is its place in the core's list for the channel count."""

    index: int
    rows: int
    threads: int
    ctas_per_sm: int


@cache
def _tiles(C: int, snake: bool) -> tuple[UnitTile, ...]:
    return tuple(
        UnitTile(index, 16 * warps_m * m_tiles, 32 * warps_m * warps_n, ctas_per_sm)
        for index, (warps_m, warps_n, m_tiles, ctas_per_sm) in enumerate(
            core().unit_tiles(C, snake)
        )
    )


def _shared_bytes(desc: ResidualUnitDesc, tile: UnitTile) -> int:
    bytes_of = core().unit_shared_bytes
    return STATIC_SHARED_BYTES + max(
        bytes_of(desc.C, desc.snake, tile.index, desc.convs, k, d)
        for k, d in zip(desc.K, desc.dilation)
    )


def _output_rows(desc: ResidualUnitDesc, tile: UnitTile, K: int) -> int:
    return core().unit_rows(desc.C, desc.snake, tile.index, desc.convs, K)


def _fitting(desc: ResidualUnitDesc, target: Target) -> list[UnitTile]:
    """Tiles that fit into shared memory and spend at least half of their rows on output."""
    return [
        tile
        for tile in _tiles(desc.C, desc.snake)
        if _shared_bytes(desc, tile) <= target.shared_bytes
        and 2 * _output_rows(desc, tile, max(desc.K)) >= tile.rows
    ]


def pack(weights: Sequence[Sequence[torch.Tensor]], dtype: torch.dtype) -> torch.Tensor:
    """``weights[j][i]``, ``[C, C, K_j]`` of branch j's convolution i, in kernel order, flat."""
    return torch.cat([pack_weight(w, dtype) for branch in weights for w in branch])


def can_run(desc: ResidualUnitDesc, target: Target) -> Support:
    if desc.activation not in ("leaky_relu", "snake") or desc.convs not in (1, 2):
        return Support(
            False, f"{NAME}: expected leaky_relu or snake and one or two convolutions, got {desc}"
        )
    if len(desc.dilation) != desc.branches or not 1 <= desc.branches <= MOST_BRANCHES:
        return Support(
            False,
            f"{NAME}: expected 1 to {MOST_BRANCHES} kernel sizes with a dilation each, got {desc}",
        )
    if any(k % 2 == 0 for k in desc.K):
        return Support(False, f"{NAME}: expected odd kernel sizes, got {desc.K}")
    support = slope_support(NAME, desc.slope) and tensor_core_support(target, desc.dtype)
    if not support:
        return support
    if not _tiles(desc.C, desc.snake):
        return Support(False, f"{NAME}: no fused kernel for {desc.C} channels")
    if not _fitting(desc, target):
        return Support(
            False,
            f"{NAME}: kernel sizes {desc.K} with dilations {desc.dilation} need more shared memory "
            f"than the {target.shared_bytes} bytes of this GPU",
        )
    return Support(True)


def choose_config(desc: ResidualUnitDesc, B: int, T_cap: int, target: Target) -> UnitTile:
    """Of the tiles of which a multiprocessor holds two, so that one computes while the other waits,
    the one with the fewest rows on the busiest multiprocessor; the larger of equals. A snake walks
    the rows of the first convolution's halo too."""
    row_bytes = 16 * (desc.C // 8 | 1)

    def cost(tile: UnitTile) -> tuple[bool, int]:
        shared = _shared_bytes(desc, tile)
        ctas = sum(B * -(-T_cap // _output_rows(desc, tile, k)) for k in desc.K)
        rows = tile.rows + (shared // row_bytes if desc.snake else 0)
        alone = 2 * shared > target.shared_bytes + RESERVED_BYTES
        return alone, -(-ctas // target.multiprocessors) * rows

    return min(_fitting(desc, target), key=cost)


def launch(
    desc: ResidualUnitDesc,
    config: UnitTile,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor,
    ranges: torch.Tensor,
    outputs: Sequence[torch.Tensor],
    alpha: torch.Tensor | None = None,
    inv_beta: torch.Tensor | None = None,
    filters: Sequence[float] | None = None,
) -> None:
    """One fp32 stream per branch in ``inputs`` and ``outputs``; the same input may serve several
    branches, no output may be an input. ``weight`` as packed here; ``bias: [convs, branches, C]``
    fp32; for a snake ``alpha``, ``inv_beta`` of that shape too, ``filters`` by `pack_filters`."""
    n = desc.branches
    per_conv = (desc.convs, n, desc.C)
    sizes = [packed_size(desc.C, k) for k in desc.K for _ in range(desc.convs)]
    offsets = [0, *accumulate(sizes)]
    expect_buffers(NAME, "inputs", inputs, n, desc.C)
    expect_buffers(NAME, "outputs", outputs, n, desc.C)
    expect_shape(NAME, "weight", weight, (offsets[-1],), desc.dtype)
    expect_shape(NAME, "bias", bias, per_conv, torch.float32)
    if desc.snake:
        if alpha is None or inv_beta is None or filters is None:
            raise ValueError(f"{NAME}: a snake needs alpha, inv_beta and filters")
        expect_shape(NAME, "alpha", alpha, per_conv, torch.float32)
        expect_shape(NAME, "inv_beta", inv_beta, per_conv, torch.float32)

    def vector(of: torch.Tensor | None, i: int, j: int) -> int:
        return address(of) + 4 * (i * n + j) * desc.C if of is not None else 0

    B, T_cap, _ = inputs[0].shape
    core().residual_unit(
        branches=[
            (
                address(inputs[j]),
                address(outputs[j]),
                desc.K[j],
                desc.dilation[j],
                [
                    (
                        address(weight) + offsets[j * desc.convs + i] * weight.element_size(),
                        vector(bias, i, j),
                        vector(alpha if desc.snake else None, i, j),
                        vector(inv_beta if desc.snake else None, i, j),
                    )
                    for i in range(desc.convs)
                ],
            )
            for j in range(n)
        ],
        ranges=address(ranges),
        B=B,
        T_cap=T_cap,
        C=desc.C,
        scale=desc.scale,
        extra=desc.extra,
        snake=desc.snake,
        slope=desc.slope,
        filters=list(filters or ()),
        dtype=DTYPE_CODES[desc.dtype],
        tile=config.index,
        **place_of(ranges),
    )
