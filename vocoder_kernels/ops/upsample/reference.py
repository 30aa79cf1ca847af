from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..reference import on_valid_rows
from .desc import UpsampleDesc


def reference(
    desc: UpsampleDesc,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ranges: torch.Tensor,
    T_cap_out: int,
) -> torch.Tensor:
    """The stream, in the inputs' dtype. ``weight`` is PyTorch's ``[C_in, C_out, K]``."""
    x = inputs[0]
    if desc.inputs:
        x = F.leaky_relu(torch.stack(list(inputs)).mean(0), desc.slope_in)

    def up(row: torch.Tensor) -> torch.Tensor:
        return F.conv_transpose1d(row, weight, bias, stride=desc.stride, padding=desc.padding)

    return on_valid_rows(
        up, x, ranges, desc.scale, desc.extra, T_cap_out, desc.scale_out, desc.C_out
    )
