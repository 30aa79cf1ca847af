"""The residual unit in plain PyTorch, any float dtype: what the kernel must equal."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

import torch
import torch.nn.functional as F

Snake = Tuple[torch.Tensor, torch.Tensor]
"""alpha and inv_beta, each ``[C]``."""


def alias_free_snake(
    x: torch.Tensor, snake: Snake, filter_up: torch.Tensor, filter_down: torch.Tensor
) -> torch.Tensor:
    """``[B, C, T]``: 2x up, ``u + sin(alpha u)^2 inv_beta``, 2x down, edges replicated."""
    C = x.shape[1]
    alpha, inv_beta = (p.to(x.dtype).view(1, C, 1) for p in snake)
    up = filter_up.to(x.dtype).view(1, 1, -1).expand(C, 1, -1)
    down = filter_down.to(x.dtype).view(1, 1, -1).expand(C, 1, -1)
    u = 2 * F.conv_transpose1d(F.pad(x, (5, 5), mode="replicate"), up, stride=2, groups=C)
    u = u[..., 15:-15]
    a = u + torch.sin(alpha * u) ** 2 * inv_beta
    return F.conv1d(F.pad(a, (5, 6), mode="replicate"), down, stride=2, groups=C)


def residual_unit_reference(
    x: torch.Tensor,
    weights: Sequence[torch.Tensor],
    biases: Sequence[torch.Tensor],
    dilation: int,
    slope: float = 0.0,
    snakes: Optional[Sequence[Snake]] = None,
    filters: Optional[Tuple[torch.Tensor, torch.Tensor]] = None,
) -> torch.Tensor:
    """One utterance, channels-last ``[T, C]``; one or two weights ``[C, C, K]``."""
    y = x.t().unsqueeze(0)
    for i, (weight, bias) in enumerate(zip(weights, biases)):
        if snakes is None:
            y = F.leaky_relu(y, slope)
        else:
            if filters is None:
                raise ValueError("residual_unit: snakes need filters=(up, down), got none")
            y = alias_free_snake(y, snakes[i], *filters)
        d = dilation if i == 0 else 1
        halo = d * (weight.shape[2] - 1) // 2
        y = F.conv1d(y, weight.to(x.dtype), bias.to(x.dtype), padding=halo, dilation=d)
    return x + y[0].t()
