"""Runs a PyTorch operation on the valid samples of channels-last buffers."""

from __future__ import annotations

from typing import Callable

import torch


def valid_samples(start: int, end: int, scale: int, extra: int) -> tuple[int, int]:
    """First and last + 1 sample of frames ``[start, end)``; no frames are no samples."""
    return start * scale, max(start, end) * scale + (extra if end > start else 0)


def on_valid_rows(
    operation: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    ranges: torch.Tensor,
    scale: int,
    extra: int,
    T_cap_out: int | None = None,
    scale_out: int | None = None,
    C_out: int | None = None,
) -> torch.Tensor:
    """``operation`` takes and returns ``[1, C, T]``. The result is NaN outside the valid samples,
    which begin at ``start * scale_out``; capacity, scale and channels are the
    input's if not given."""
    B, T_cap, C = x.shape
    shape = (B, T_cap if T_cap_out is None else T_cap_out, C if C_out is None else C_out)
    out = x.new_full(shape, float("nan"))
    for row, result, (start, end) in zip(x, out, ranges.tolist()):
        first, last = valid_samples(start, end, scale, extra)
        if first < last:
            y = operation(row[first:last].t()[None])[0].t()
            begin = start * (scale if scale_out is None else scale_out)
            result[begin : begin + y.shape[0]] = y
    return out
