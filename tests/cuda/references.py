"""What the CUDA C++ kernels must compute, in torch operators and the dtype of the input."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F


class snake_weights:
    """Filters and per-channel parameters of anti-aliased snakes."""

    @staticmethod
    def filters() -> torch.Tensor:
        """24 taps, up (doubled) then down: Kaiser-windowed sinc, cutoff 0.25, half width 0.3."""
        half_width, taps = 0.3, 12
        attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
        beta = (
            0.1102 * (attenuation - 8.7)
            if attenuation > 50
            else 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
        )
        window = torch.kaiser_window(taps, periodic=False, beta=beta, dtype=torch.float64)
        time = torch.arange(-(taps // 2), taps // 2, dtype=torch.float64) + 0.5
        taps_ = 0.5 * window * torch.sinc(0.5 * time)
        taps_ = (taps_ / taps_.sum()).float()
        return torch.cat([2.0 * taps_, taps_])

    @staticmethod
    def random(C: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """alpha and inv_beta, each [C]."""
        alpha = torch.exp(torch.randn(C, generator=generator))
        beta = torch.exp(0.5 * torch.randn(C, generator=generator))
        return alpha, 1.0 / (beta + 1e-9)


def alias_free(
    x: torch.Tensor, alpha: torch.Tensor, inv_beta: torch.Tensor, filters: torch.Tensor
) -> torch.Tensor:
    """``x: [T, C]``: 2x up, snake, 2x down, both replicating the ends."""
    C = x.shape[1]
    up = filters[:12].to(x.dtype).expand(C, 1, 12)
    down = filters[12:].to(x.dtype).expand(C, 1, 12)
    h = F.pad(x.t()[None], (5, 5), mode="replicate")
    h = F.conv_transpose1d(h, up, stride=2, groups=C)[..., 15:-15]
    a = alpha.to(x.dtype)[:, None]
    h = h + torch.sin(a * h) ** 2 * inv_beta.to(x.dtype)[:, None]
    h = F.conv1d(F.pad(h, (5, 6), mode="replicate"), down, stride=2, groups=C)
    return h[0].t()
