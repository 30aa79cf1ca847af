from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch


class SnakeWeights(NamedTuple):
    """``alpha`` and ``inv_beta``: ``[C_in]`` fp32; ``filters``: by `alias_free.pack_filters`."""

    alpha: torch.Tensor
    inv_beta: torch.Tensor
    filters: torch.Tensor


@dataclass(frozen=True)
class TailDesc:
    """``end(conv(activation(mean of inputs)) + bias)`` to one channel.

    ``inputs`` tensors of ``dtype_in``; the activation is LeakyReLU (a slope of 1.0 is none) or,
    with ``snake``, the anti-aliased snake; ``end`` is "tanh" or "clamp".
    """

    C_in: int
    K: int
    inputs: int
    dtype_in: torch.dtype
    slope: float = 1.0
    bias: bool = False
    end: str = "tanh"
    scale: int = 1
    extra: int = 0
    snake: bool = False

    @property
    def halo(self) -> int:
        return (self.K - 1) // 2

    def flops(self, samples: int) -> int:
        return 2 * samples * self.K * self.C_in


def pack(weight: torch.Tensor) -> torch.Tensor:
    """``[1, C_in, K]`` to fp32 ``[K, C_in]``."""
    return weight[0].t().float().contiguous()
