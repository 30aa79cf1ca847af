from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ResidualConvDesc:
    """Branch j: ``y_j = conv_j(x_j) + bias_j (+ residual_j)``, ``x_j`` activated, in ``dtype``.

    Writes ``y_j`` as an fp32 ``stream`` and/or ``activated = leaky(y_j, slope)`` in ``dtype``; a
    slope of 1.0 is no activation. Branches run in the order given: put the longest first.
    residual_slope: None if residuals are fp32 streams; else they are activated tensors in
    ``dtype``, and LeakyReLU of this slope, which is above 0, is undone.
    mean: the branches share one output, the mean of their ``y_j``.
    """

    C_in: int
    C_out: int
    K: tuple[int, ...]
    dilation: tuple[int, ...]
    dtype: torch.dtype
    bias: bool = True
    residual: bool = False
    residual_slope: float | None = None
    mean: bool = False
    stream: bool = False
    activated: bool = True
    slope: float = 1.0
    scale: int = 1
    extra: int = 0
    precision: str = "ieee"

    @property
    def branches(self) -> int:
        return len(self.K)

    @property
    def outputs(self) -> int:
        return 1 if self.mean else self.branches

    @property
    def residual_dtype(self) -> torch.dtype:
        return torch.float32 if self.residual_slope is None else self.dtype

    @property
    def halo(self) -> int:
        return max(d * (k - 1) // 2 for k, d in zip(self.K, self.dilation))

    def flops(self, samples: int) -> int:
        return 2 * samples * sum(self.K) * self.C_in * self.C_out


def pack(weights: Sequence[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Branches' ``[C_out, C_in, K_j]`` to one ``[sum of K_j, C_in, C_out]`` in ``dtype``."""
    return torch.cat([w.permute(2, 1, 0) for w in weights]).to(dtype).contiguous()
