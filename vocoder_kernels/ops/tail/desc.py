from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class TailDesc:
    """``end(conv(leaky(mean of inputs, slope)) + bias)`` to one channel.

    ``inputs`` tensors of ``dtype_in``; a slope of 1.0 is no activation; ``end`` is "tanh" or "clamp".
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

    @property
    def halo(self) -> int:
        return (self.K - 1) // 2

    def flops(self, samples: int) -> int:
        return 2 * samples * self.K * self.C_in


def pack(weight: torch.Tensor) -> torch.Tensor:
    """``[1, C_in, K]`` to fp32 ``[K, C_in]``."""
    return weight[0].t().float().contiguous()
