"""Layers of a vocoder as data: no tensors, no device. Weights travel beside them, by ``name``."""

from __future__ import annotations

from dataclasses import dataclass

ALIAS_FREE_TAPS = 12
ALIAS_FREE_HALO = 5
"""Samples each side that one anti-aliased activation needs: 12 taps up to 2x, 12 taps down."""


@dataclass(frozen=True)
class Conv1d:
    """Length-preserving ``[B, C_in, T] -> [B, C_out, T]``, zero padding of ``halo`` each side."""

    name: str
    C_in: int
    C_out: int
    K: int
    dilation: int = 1
    bias: bool = True

    @property
    def halo(self) -> int:
        return self.dilation * (self.K - 1) // 2

    def flops(self, T: int) -> int:
        """Floating-point operations for T samples, a multiply-add counted as two."""
        return 2 * T * self.K * self.C_in * self.C_out

    @property
    def weight_count(self) -> int:
        return self.K * self.C_in * self.C_out + (self.C_out if self.bias else 0)


@dataclass(frozen=True)
class ConvTranspose1d:
    """Upsampling ``[B, C_in, T] -> [B, C_out, (T - 1) * stride - 2 * padding + K]``."""

    name: str
    C_in: int
    C_out: int
    K: int
    stride: int
    padding: int
    bias: bool = True

    @property
    def extra(self) -> int:
        """Samples by which the output is longer than ``T * stride``."""
        return self.K - self.stride - 2 * self.padding

    def length(self, T: int) -> int:
        return T * self.stride + self.extra

    def inputs(self, first: int, last: int) -> tuple[int, int]:
        """First and last input sample that output samples ``first..last`` depend on."""
        return -((self.K - 1 - self.padding - first) // self.stride), (
            last + self.padding
        ) // self.stride

    def flops(self, T: int) -> int:
        return 2 * T * self.K * self.C_in * self.C_out

    @property
    def weight_count(self) -> int:
        return self.K * self.C_in * self.C_out + (self.C_out if self.bias else 0)


@dataclass(frozen=True)
class Activation:
    """``kind`` is "none", "leaky_relu" (with ``slope``) or "snake".

    A snake is anti-aliased: 2x up, ``x + sin(alpha x)^2 * inv_beta``, 2x down, edges replicated.
    """

    kind: str = "none"
    slope: float = 0.0
    name: str = ""

    @property
    def halo(self) -> int:
        return ALIAS_FREE_HALO if self.kind == "snake" else 0

    def flops(self, elements: int) -> int:
        """About 24 multiply-adds and two sines (10 multiply-adds each) per element of a snake."""
        return elements * {"none": 0, "leaky_relu": 1, "snake": 2 * (24 + 2 * 12)}[self.kind]


@dataclass(frozen=True)
class ResidualUnit:
    """``x + convs[-1](activations[-1](... convs[0](activations[0](x))))``."""

    activations: tuple[Activation, ...]
    convs: tuple[Conv1d, ...]

    @property
    def halo(self) -> int:
        return sum(a.halo + c.halo for a, c in zip(self.activations, self.convs))


@dataclass(frozen=True)
class Stage:
    """Activation, upsampling, then the mean of the branches (multi-receptive-field fusion)."""

    activation: Activation
    up: ConvTranspose1d
    branches: tuple[tuple[ResidualUnit, ...], ...]

    @property
    def channels(self) -> int:
        return self.up.C_out

    @property
    def halo(self) -> int:
        return max(sum(unit.halo for unit in branch) for branch in self.branches)

    @property
    def convs(self) -> tuple[Conv1d, ...]:
        return tuple(c for branch in self.branches for unit in branch for c in unit.convs)
