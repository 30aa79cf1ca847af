from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.nn import functional as F

from ..reference import on_valid_rows
from .desc import ResidualConvDesc


def reference(
    desc: ResidualConvDesc,
    inputs: Sequence[torch.Tensor],
    weights: Sequence[torch.Tensor],
    bias: torch.Tensor | None,
    residuals: Sequence[torch.Tensor] | None,
    ranges: torch.Tensor,
) -> list[torch.Tensor]:
    """``y`` of every output before the activation, in the inputs' dtype. ``weights`` are PyTorch's
    ``[C_out, C_in, K]``, the rest as in `launch`."""
    outputs = []
    for j, (x, weight) in enumerate(zip(inputs, weights)):

        def conv(row: torch.Tensor, j: int = j, weight: torch.Tensor = weight) -> torch.Tensor:
            return F.conv1d(
                row,
                weight,
                None if bias is None else bias[j],
                padding=desc.dilation[j] * (desc.K[j] - 1) // 2,
                dilation=desc.dilation[j],
            )

        y = on_valid_rows(conv, x, ranges, desc.scale, desc.extra, C_out=desc.C_out)
        if residuals is not None:
            y = y + _residual(desc, residuals[j])
        outputs.append(y)
    return [torch.stack(outputs).mean(0)] if desc.mean else outputs


def _residual(desc: ResidualConvDesc, x: torch.Tensor) -> torch.Tensor:
    slope = desc.residual_slope
    return x if slope is None else torch.where(x < 0, x / slope, x)
