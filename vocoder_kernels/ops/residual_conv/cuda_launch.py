"""Grouped convolutions of wide channels on the CUDA core's tensor-core kernel."""

from __future__ import annotations

import torch


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
