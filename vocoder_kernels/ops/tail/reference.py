from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..alias_free.reference import activate
from ..reference import on_valid_rows
from .desc import SnakeWeights, TailDesc


def reference(
    desc: TailDesc,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ranges: torch.Tensor,
    snake: SnakeWeights | None = None,
) -> torch.Tensor:
    """``[B, T_cap]`` in the inputs' dtype, NaN outside the valid samples. ``weight`` is PyTorch's
    ``[1, C_in, K]``."""
    x = sum(inputs[1:], inputs[0]) / desc.inputs

    def end(row: torch.Tensor) -> torch.Tensor:
        row = F.leaky_relu(row, desc.slope) if snake is None else activate(row, *snake)
        y = F.conv1d(row, weight, bias, padding=desc.halo)
        return torch.tanh(y) if desc.end == "tanh" else y.clamp(-1.0, 1.0)

    return on_valid_rows(end, x, ranges, desc.scale, desc.extra, C_out=1)[..., 0]
