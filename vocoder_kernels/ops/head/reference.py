from __future__ import annotations

import torch
from torch.nn import functional as F

from ..reference import valid_samples
from .desc import HeadDesc


def reference(
    desc: HeadDesc,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    cond: torch.Tensor | None,
    source: torch.Tensor,
    ranges: torch.Tensor,
    T_cap: int,
    cond_weight: torch.Tensor | None = None,
    cond_bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """The buffer ``[B, T_cap, C_out]`` in x's dtype, NaN outside the valid samples. ``weight`` is
    PyTorch's ``[C_out, C_in, K]``, ``cond_weight`` ``[C_out, C_cond, 1]`` or None."""
    if cond is not None and cond_weight is not None:
        cond = F.conv1d(cond.reshape(len(cond), -1, 1), cond_weight, cond_bias)[:, :, 0]
    out = x.new_full((len(ranges), T_cap, desc.C_out), float("nan"))
    for b, ((row, time), (start, end)) in enumerate(zip(source.tolist(), ranges.tolist())):
        first, last = valid_samples(start, end, desc.scale, desc.extra)
        if first >= last:
            continue
        valid = x[row : row + 1, :, time + first : time + last]
        y = F.conv1d(valid, weight, bias, padding=desc.halo, dilation=desc.dilation)
        if cond is not None:
            y = y + cond[row, :, None]
        out[b, first:last] = F.leaky_relu(y, desc.slope)[0].t()
    return out
