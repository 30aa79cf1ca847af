from __future__ import annotations

from typing import Optional, Sequence

import torch
from torch.nn import functional as F

from ..reference import on_valid_rows
from .desc import TailDesc


def reference(
    desc: TailDesc,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: Optional[torch.Tensor],
    ranges: torch.Tensor,
) -> torch.Tensor:
    """``[B, T_cap]`` in the inputs' dtype, NaN outside the valid samples. ``weight`` is PyTorch's
    ``[1, C_in, K]``."""
    x = F.leaky_relu(sum(inputs) / desc.inputs, desc.slope)

    def end(row: torch.Tensor) -> torch.Tensor:
        y = F.conv1d(row, weight, bias, padding=desc.halo)
        return torch.tanh(y) if desc.end == "tanh" else y.clamp(-1.0, 1.0)

    return on_valid_rows(end, x, ranges, desc.scale, desc.extra)[..., 0]
