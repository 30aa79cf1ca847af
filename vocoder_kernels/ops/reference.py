"""Runs a PyTorch operation on the valid samples of channels-last buffers."""

from __future__ import annotations

from typing import Callable

import torch


def on_valid_rows(
    operation: Callable[[torch.Tensor], torch.Tensor],
    x: torch.Tensor,
    ranges: torch.Tensor,
    scale: int,
    extra: int,
    T_cap_out: int | None = None,
    scale_out: int | None = None,
) -> torch.Tensor:
    """``operation`` takes and returns ``[1, C, T]``. The result is NaN outside the valid samples,
    which begin at ``start * scale_out``; capacity and scale are the input's if not given."""
    outputs = []
    T_cap_out = x.shape[1] if T_cap_out is None else T_cap_out
    scale_out = scale if scale_out is None else scale_out
    for row, (start, end) in zip(x, ranges.tolist()):
        y = operation(row[start * scale : end * scale + extra].t()[None])[0].t()
        out = y.new_full((T_cap_out, y.shape[1]), float("nan"))
        out[start * scale_out : start * scale_out + y.shape[0]] = y
        outputs.append(out)
    return torch.stack(outputs)
