from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class ResidualBranchDesc:
    """Branch j: ``unit_n(... unit_1(x_j))`` on fp32 streams, products in ``dtype``.

    A unit is ``x + conv2(act(conv1(act(x))))``, or with one of ``convs`` ``x + conv(act(x))``, with
    LeakyReLU of ``slope``. ``dilation[j]`` are those of the first convolutions of branch j's units,
    the second ones have none. Branches run in the order given: put the longest first.
    """

    C: int
    K: tuple[int, ...]
    dilation: tuple[tuple[int, ...], ...]
    dtype: torch.dtype
    convs: int = 2
    slope: float = 0.1
    scale: int = 1
    extra: int = 0

    @property
    def branches(self) -> int:
        return len(self.K)

    @property
    def layers(self) -> int:
        """Convolutions of all branches."""
        return self.convs * sum(map(len, self.dilation))

    @property
    def halos(self) -> tuple[int, ...]:
        """Samples each side that a result of each branch depends on."""
        return tuple(
            sum(d + self.convs - 1 for d in dilation) * (k - 1) // 2
            for k, dilation in zip(self.K, self.dilation)
        )

    @property
    def halo(self) -> int:
        return max(self.halos)

    @property
    def reach(self) -> int:
        """Samples each side that one convolution reads."""
        return max(max(dilation) * (k - 1) // 2 for k, dilation in zip(self.K, self.dilation))

    def flops(self, samples: int) -> int:
        taps = sum(k * len(dilation) for k, dilation in zip(self.K, self.dilation))
        return 2 * samples * self.convs * taps * self.C * self.C
