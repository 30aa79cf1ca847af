from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ResidualUnitDesc:
    """Branch j: ``x_j + conv2_j(act(conv1_j(act(x_j))))``, or with one of ``convs``
    ``x_j + conv_j(act(x_j))``, on fp32 streams; products in ``dtype``.

    ``activation`` is "leaky_relu" with ``slope`` or "snake" (anti-aliased). ``dilation`` is that of
    the first convolution, the second has none. Branches run in the order given: put the longest
    first.
    """

    C: int
    K: tuple[int, ...]
    dilation: tuple[int, ...]
    dtype: torch.dtype
    convs: int = 2
    activation: str = "leaky_relu"
    slope: float = 0.1
    scale: int = 1
    extra: int = 0

    @property
    def branches(self) -> int:
        return len(self.K)

    @property
    def snake(self) -> bool:
        return self.activation == "snake"

    @property
    def halo(self) -> int:
        """Samples each side that a result depends on."""
        second = self.convs == 2
        reach = max((d + second) * (k - 1) // 2 for k, d in zip(self.K, self.dilation))
        return reach + (5 * self.convs if self.snake else 0)

    def flops(self, samples: int) -> int:
        return 2 * samples * self.convs * sum(self.K) * self.C * self.C


def pack_filters(up: torch.Tensor, down: torch.Tensor) -> tuple[float, ...]:
    """The 12-tap filters as 24 host numbers, the upsampling's gain of 2 in its taps: they travel as
    arguments of the launch, so a captured graph keeps the values it was captured with."""
    return tuple((2.0 * up.flatten().float()).tolist() + down.flatten().float().tolist())
