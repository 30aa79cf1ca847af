from __future__ import annotations

import torch
from torch.nn import functional as F

from ..reference import on_valid_rows
from .desc import TAPS, AliasFreeDesc


def activate(
    x: torch.Tensor, alpha: torch.Tensor, inv_beta: torch.Tensor, filters: torch.Tensor
) -> torch.Tensor:
    """``[1, C, T]``, all of it valid."""
    C = x.shape[1]
    up, down = filters[:TAPS].expand(C, 1, -1), filters[TAPS:].expand(C, 1, -1)
    z = F.pad(x, (5, 5), mode="replicate")
    z = F.conv_transpose1d(z, up, stride=2, groups=C)[..., 15:-15]
    z = z + torch.sin(alpha[:, None] * z).square() * inv_beta[:, None]
    return F.conv1d(F.pad(z, (5, 6), mode="replicate"), down, stride=2, groups=C)


def reference(
    desc: AliasFreeDesc,
    x: torch.Tensor,
    alpha: torch.Tensor,
    inv_beta: torch.Tensor,
    filters: torch.Tensor,
    ranges: torch.Tensor,
) -> torch.Tensor:
    """One tensor's activation in x's dtype, ``filters`` as packed."""

    def activation(row: torch.Tensor) -> torch.Tensor:
        return activate(row, alpha, inv_beta, filters)

    return on_valid_rows(activation, x, ranges, desc.scale, desc.extra)
