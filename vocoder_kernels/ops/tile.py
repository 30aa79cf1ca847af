"""Tile shapes of the matrix-product kernels (head, upsample, residual_conv)."""

from __future__ import annotations

from dataclasses import dataclass, replace

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

    def shared_bytes(self, row_bytes: int, column_bytes: int) -> int:
        """Upper bound of the pipeline's shared memory. ``row_bytes``, ``column_bytes``: of one
        sample and one channel per product: two fp32 streams and fp16 weights are 8 and 2."""
        return self.num_stages * self.BK * (self.BT * row_bytes + self.BN * column_bytes)

    def ctas(self, rows: int, columns: int) -> int:
        return -(-rows // self.BT) * -(-columns // self.BN)


@dataclass(frozen=True)
class Product:
    """``rows`` x ``columns`` outputs of each branch, branch j a sum over ``depths[j]`` products,
    longest first, of ``channels`` per tap; ``row_bytes``: of the input per product.
    modest: do without the largest tile, where CTAs are few and long or much follows the sums."""

    rows: int
    columns: int
    depths: tuple[int, ...]
    channels: int
    row_bytes: int
    modest: bool = False


@dataclass(frozen=True)
class _Rung:
    """``alone``: time of a CTA that has its multiprocessor for itself; ``among``: per CTA of
    several there. Microseconds at a depth of 1792, modelled for the GPU named at the ladder."""

    tile: TileConfig
    alone: float
    among: float


def _rung(
    BT: int, BN: int, BK: int, num_stages: int, alone: float, among: float, num_warps: int = 4
) -> _Rung:
    return _Rung(TileConfig(BT, BN, BK, num_warps, num_stages), alone, among)


_A100 = (
    _rung(32, 32, 128, 3, 7.1, 5.4),
    _rung(32, 64, 128, 3, 9.0, 8.1),
    _rung(64, 64, 64, 3, 11.8, 10.9),
    _rung(64, 128, 64, 3, 19.5, 15.8),
    _rung(128, 64, 32, 3, 20.4, 16.4),
    _rung(128, 128, 32, 3, 31.0, 27.2),
)
_A100_MODEST = (*_A100[:-2], _rung(128, 64, 64, 3, 20.0, 15.6))
_GEFORCE = (  # RTX 4090: half the tensor rate per byte of L2
    _rung(32, 32, 64, 4, 7.1, 6.9),
    _rung(32, 64, 64, 3, 10.6, 10.4),
    _rung(64, 64, 64, 3, 14.1, 13.9),
    _rung(64, 128, 32, 3, 26.9, 24.3),
    _rung(128, 64, 32, 3, 27.3, 25.0),
    _rung(128, 128, 32, 3, 49.8, 49.1),
)
_HOPPER = (  # H100; fewer rows than 64 would compile to other instructions, with other bits
    _rung(64, 64, 64, 3, 7.4, 5.0),
    _rung(64, 128, 64, 3, 11.7, 8.3),
    _rung(128, 64, 64, 3, 11.5, 8.3),
    _rung(128, 128, 64, 3, 16.5, 13.0),
)
# Inputs averaged on load go through registers: as asynchronous copies their fp32 tiles have bank
# conflicts without end (256 channels, A100: 807 us against 52).
_MEAN = (
    _rung(32, 128, 64, 1, 9.6, 6.8),
    _rung(64, 128, 32, 1, 18.0, 12.2, num_warps=8),
)
_FLOAT32 = (  # no tensor cores: the time is that of the products
    _rung(32, 64, 16, 3, 2.0, 2.0),
    _rung(64, 64, 16, 3, 3.8, 3.8),
)


FILLED = (5, 6, 7, 8)
"""Eighths of a window: the ladder of windows doubles."""


def next_power_of_2(n: int) -> int:
    return 1 << max(0, n - 1).bit_length()


def column_tile(columns: int, largest: int) -> int:
    """Widest power of two up to ``largest`` that wastes less than a tenth of the columns."""
    BN = min(largest, max(16, next_power_of_2(columns)))
    while BN > 32 and -(-columns // BN) * BN > 1.1 * columns:
        BN //= 2
    return BN


def choose_tile(product: Product, dtype: torch.dtype, precision: str, target: Target) -> TileConfig:
    """The tile of the ladder with the least modelled time on the busiest multiprocessor: small
    tiles spread short windows, large ones reuse more of what they load."""
    tensor_cores = dtype != torch.float32 or precision == "tf32"
    mean = product.row_bytes > dtype.itemsize
    if target.backend == "hip" or target.arch < 80 and tensor_cores:
        BT = 64 if target.backend == "hip" else 32
        if target.backend == "cuda" and product.modest and product.channels % 32:
            BT = 16  # scalar products and much that follows spill at 32 rows
        tile = TileConfig(BT, column_tile(product.columns, 64), 32, 4, 2)
    else:
        ladder = _ladder(tensor_cores, mean, product.modest, target)
        candidates = [_narrowed(rung, product.columns) for rung in ladder]
        if 100 <= target.arch < 120:
            # 128 x 32 leaves 72 registers, from which the addition of a residual spills.
            candidates = [r for r in candidates if r.tile.BT < 128 or r.tile.BN > 32]
        tile = min(candidates, key=lambda rung: _time(rung, product, target.multiprocessors)).tile
    if mean:
        # 64 products of float32 weights at a time spill.
        tile = replace(tile, num_stages=1, BK=min(tile.BK, 128 // dtype.itemsize))
    return _fitted(tile, product, dtype, target)


def _ladder(tensor_cores: bool, mean: bool, modest: bool, target: Target) -> tuple[_Rung, ...]:
    if not tensor_cores:
        return _FLOAT32
    if 90 <= target.arch < 120:
        return _MEAN[1:] if mean else _HOPPER[:-1] if modest else _HOPPER
    if target.arch in (80, 87):
        return _MEAN[:1] if mean else _A100_MODEST if modest else _A100
    return _MEAN if mean else _GEFORCE[:-1] if modest else _GEFORCE


def _narrowed(rung: _Rung, columns: int) -> _Rung:
    """With fewer columns where the rung's do not divide the product's: time follows the loads."""
    tile = rung.tile
    BN = column_tile(columns, tile.BN)
    share = (tile.BT + BN) / (tile.BT + tile.BN)
    return _Rung(replace(tile, BN=BN), rung.alone * share, rung.among * share)


def _time(rung: _Rung, product: Product, multiprocessors: int) -> float:
    """Of the multiprocessor that works longest; CTAs start longest first. Mean over windows filled
    to different shares."""
    longest, shortest = product.depths[0], product.depths[-1]

    def time(rows: int) -> float:
        load = rung.tile.ctas(rows, product.columns) * sum(product.depths) / multiprocessors
        rounds = -(-load // shortest)
        return max(rung.alone * longest, (rung.among * (rounds - 1) + rung.alone) * shortest)

    return sum(time(-(-product.rows * share // 8)) for share in FILLED)


def _fitted(tile: TileConfig, product: Product, dtype: torch.dtype, target: Target) -> TileConfig:
    """A step that suits the channels, and stages that the shared memory of one CTA holds."""
    if dtype.itemsize == 4:
        # 64 products of a large tile, or on data-centre Blackwell of any, spill.
        large = tile.BT * tile.BN > 64 * 64 or 100 <= target.arch < 120
        tile = replace(tile, BK=min(tile.BK, 32 if large else 64))
    while tile.BK > 32 and product.channels % tile.BK and product.channels % 16 == 0:
        tile = replace(tile, BK=tile.BK // 2)

    def too_large() -> bool:
        return tile.shared_bytes(product.row_bytes, dtype.itemsize) > target.shared_bytes

    while too_large() and tile.num_stages > 2:
        tile = replace(tile, num_stages=tile.num_stages - 1)
    while too_large() and tile.BK > 16:
        tile = replace(tile, BK=tile.BK // 2)
    return tile
