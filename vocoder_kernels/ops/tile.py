"""Tile shapes of the matrix-product kernels (head, upsample, residual_conv)."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .support import Target


@dataclass(frozen=True)
class TileConfig:
    """A CTA computes ``BT`` samples x ``BN`` channels, ``BK`` products at a time.

    The bits of a result depend on none of these (on sm_90 within ``BT >= 64``).
    """

    BT: int
    BN: int
    BK: int
    num_warps: int = 4
    num_stages: int = 3

    def shared_bytes(self, element_bytes: int, inputs: int = 1) -> int:
        """Upper bound of the pipeline's shared memory."""
        return self.num_stages * self.BK * (self.BT * inputs + self.BN) * element_bytes

    def ctas(self, rows: int, columns: int) -> int:
        return -(-rows // self.BT) * -(-columns // self.BN)


def next_power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def column_tile(columns: int, largest: int) -> int:
    """Widest power of two up to ``largest`` that wastes less than a tenth of the columns."""
    BN = min(largest, max(16, next_power_of_2(columns)))
    while BN > 32 and -(-columns // BN) * BN > 1.1 * columns:
        BN //= 2
    return BN


def choose_tile(
    rows: int, columns: int, depth: int, dtype: torch.dtype, precision: str, target: Target
) -> TileConfig:
    """The largest tile of the ladder that still gives every multiprocessor work.

    ``rows`` counts samples of the whole grid (batch and branches), ``depth`` input channels.
    """
    if dtype == torch.float32:
        return _fp32_tile(rows, columns, depth, precision, target)
    BK = 64 if depth >= 64 or depth % 16 else 32
    if target.backend == "hip" or target.arch < 80:
        return TileConfig(64, column_tile(columns, 64), 32, 4, 2)
    ladder = [(128, 128, 32), (64, 128, BK), (64, 64, BK), (32, 64, BK)]
    if target.arch >= 90:
        ladder.pop()
    for BT, BN, bk in ladder:
        tile = TileConfig(BT, column_tile(columns, BN), bk, 4, 3)
        if tile.ctas(rows, columns) >= target.multiprocessors:
            return tile
    return tile


def _fp32_tile(rows: int, columns: int, depth: int, precision: str, target: Target) -> TileConfig:
    stages = 3 if target.backend == "cuda" and target.arch >= 80 else 2
    for BT, BN in ((128, 128), (64, 64)) if precision == "tf32" else ((64, 64), (32, 64)):
        BK = 32 if precision == "tf32" else 16
        tile = TileConfig(BT, column_tile(columns, BN), BK, 4, stages)
        if tile.ctas(rows, columns) >= target.multiprocessors:
            return tile
    return tile
