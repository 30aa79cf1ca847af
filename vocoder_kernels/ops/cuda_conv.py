"""Tiles and weights of the CUDA core's convolution kernel (head, upsample, residual_conv)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch

from .cuda_core import core
from .support import Target

ACTIVATED, MEAN, STRIDED, SUMMED = 0, 1, 2, 3
"""How the kernel reads: a tensor in the compute dtype, the mean of streams, the caller's tensor, a
tensor in the compute dtype per branch, summing over the branches."""
SHARED_BYTES = 48 * 1024


@dataclass(frozen=True)
class ConvTile:
    """A CTA computes ``rows`` samples x ``columns`` channels (all phases of an upsampling); bits do
    not depend on it. ``index`` is its place in the core's list for the input."""

    index: int
    rows: int
    columns: int
    threads: int


@cache
def conv_tiles(source: int) -> tuple[ConvTile, ...]:
    """The compiled tiles, largest first."""
    return tuple(ConvTile(i, *tile) for i, tile in enumerate(core().conv_tiles(source)))


def tiles_for(source: int, reach: int) -> tuple[ConvTile, ...]:
    """Those whose input fits into shared memory; ``reach`` is ``dilation * (K - 1)`` at most."""
    bytes_of = core().conv_shared_bytes
    return tuple(t for t in conv_tiles(source) if bytes_of(t.rows, reach) <= SHARED_BYTES)


def choose_conv_tile(source: int, reach: int, rows: int, columns: int, target: Target) -> ConvTile:
    """The largest tile that still gives every multiprocessor a CTA; ``rows`` counts samples of the
    whole grid (batch and, unless summed, branches)."""
    tiles = tiles_for(source, reach)
    for tile in tiles:
        if -(-rows // tile.rows) * -(-columns // tile.columns) >= target.multiprocessors:
            return tile
    return tiles[-1]


def pack_fragments(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``[K, C_in, N]`` to the order in which the kernel's lanes hold weights, flat.

    Order: 32 columns, chunk of 32 input channels, tap, k16 step, 16 columns, lane, 8 values. Column
    ``4 q + 2 j + e`` of sixteen goes to fragment ``j``, place ``2 q + e``, so that a lane's results
    are four consecutive columns. Channels and columns are padded with zeros to multiples of 32.
    """
    K, C_in, N = weight.shape
    chunks, supers = -(-C_in // 32), -(-N // 32)
    padded = weight.new_zeros(K, chunks * 32, supers * 32)
    padded[:, :C_in, :N] = weight
    # tap, chunk, k16, k half, k quad, k low; 32 columns, 16 columns, column quad, fragment, low
    parts = padded.view(K, chunks, 2, 2, 4, 2, supers, 2, 4, 2, 2)
    order = (6, 1, 0, 2, 7, 8, 10, 4, 9, 3, 5)
    return parts.permute(order).to(dtype).contiguous().flatten()


def packed_size(K: int, C_in: int, columns: int) -> int:
    """Elements of `pack_fragments`."""
    return K * (-(-C_in // 32) * 32) * (-(-columns // 32) * 32)
