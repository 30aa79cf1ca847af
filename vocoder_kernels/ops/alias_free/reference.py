from __future__ import annotations

import torch
from torch.nn import functional as F

from ..reference import on_valid_rows
from .desc import TAPS, AliasFreeDesc


def reference(
    desc: AliasFreeDesc,
    x: torch.Tensor,
    alpha: torch.Tensor,
    inv_beta: torch.Tensor,
    filters: torch.Tensor,
    ranges: torch.Tensor,
) -> torch.Tensor:
    """One tensor's activation in x's dtype, ``filters`` as packed."""
    up = filters[:TAPS].expand(desc.C, 1, -1)
    down = filters[TAPS:].expand(desc.C, 1, -1)

    def activate(row: torch.Tensor) -> torch.Tensor:
        z = F.pad(row, (5, 5), mode="replicate")
        z = F.conv_transpose1d(z, up, stride=2, groups=desc.C)[..., 15:-15]
        z = z + torch.sin(alpha[:, None] * z).square() * inv_beta[:, None]
        return F.conv1d(F.pad(z, (5, 6), mode="replicate"), down, stride=2, groups=desc.C)

    return on_valid_rows(activate, x, ranges, desc.scale, desc.extra)
