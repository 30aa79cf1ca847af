from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch.nn import functional as F

from ..alias_free.reference import activate
from ..reference import on_valid_rows
from .desc import ResidualUnitDesc


def reference(
    desc: ResidualUnitDesc,
    inputs: Sequence[torch.Tensor],
    weights: Sequence[Sequence[torch.Tensor]],
    bias: torch.Tensor,
    ranges: torch.Tensor,
    alpha: torch.Tensor | None = None,
    inv_beta: torch.Tensor | None = None,
    filters: torch.Tensor | None = None,
) -> list[torch.Tensor]:
    """Every branch's stream in the inputs' dtype, NaN outside the valid samples. ``weights[j][i]``
    is PyTorch's ``[C, C, K_j]`` of branch j's convolution i, the rest as in `cuda_launch.launch`,
    the filters as one tensor ``[24]``."""

    def unit(j: int, row: torch.Tensor) -> torch.Tensor:
        y = row
        for i in range(desc.convs):
            if alpha is None or inv_beta is None or filters is None:
                y = F.leaky_relu(y, desc.slope)
            else:
                y = activate(y, alpha[i, j], inv_beta[i, j], filters)
            dilation = desc.dilation[j] if i == 0 else 1
            padding = dilation * (desc.K[j] - 1) // 2
            y = F.conv1d(y, weights[j][i], bias[i, j], padding=padding, dilation=dilation)
        return row + y

    return [
        on_valid_rows(partial(unit, j), x, ranges, desc.scale, desc.extra)
        for j, x in enumerate(inputs)
    ]
