from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HeadDesc:
    """``leaky(conv(x) + bias + cond)``; ``slope`` 1.0 is no activation.

    ``C_cond``: channels of the raw condition that the head multiplies itself; 0 if ``cond`` is the
    vector to add.
    ``dtype`` is the compute dtype and that of the output. ``precision`` ("ieee" or "tf32") is how
    float32 multiplies.
    """

    C_in: int
    C_out: int
    K: int
    dtype: torch.dtype
    dilation: int = 1
    bias: bool = True
    cond: bool = False
    C_cond: int = 0
    slope: float = 1.0
    scale: int = 1
    extra: int = 0
    precision: str = "ieee"

    @property
    def halo(self) -> int:
        return self.dilation * (self.K - 1) // 2

    def flops(self, samples: int) -> int:
        return 2 * (samples * self.K * self.C_in + self.C_cond) * self.C_out


def pack(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``[C_out, C_in, K]`` to ``[K, C_in, C_out]`` in the compute dtype."""
    return weight.permute(2, 1, 0).to(dtype).contiguous()


def pack_condition(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``[C_out, C_cond, 1]`` to ``[C_cond, C_out]`` in the compute dtype."""
    return weight[:, :, 0].t().to(dtype).contiguous()
