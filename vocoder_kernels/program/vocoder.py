"""A whole vocoder as data: what every backend lowers and every report counts."""

from __future__ import annotations

from dataclasses import dataclass

from .layers import Activation, Conv1d, ConvTranspose1d, Stage


@dataclass(frozen=True)
class Scale:
    """Time scale of a layer: ``T`` frames are ``T * scale + extra`` samples there."""

    scale: int = 1
    extra: int = 0

    def length(self, frames: int) -> int:
        return frames * self.scale + self.extra

    def up(self, layer: ConvTranspose1d) -> Scale:
        return Scale(self.scale * layer.stride, self.extra * layer.stride + layer.extra)


@dataclass(frozen=True)
class Vocoder:
    """``x: [B, head.C_in, T]``, with ``cond`` also ``g: [B, cond.C_in, 1]``, to
    ``[B, 1, length(T)]``."""

    family: str
    head: Conv1d
    cond: Conv1d | None
    stages: tuple[Stage, ...]
    activation_post: Activation
    conv_post: Conv1d
    end: str

    @property
    def scales(self) -> tuple[Scale, ...]:
        """Scale of the head's output, then of each stage's output."""
        out = [Scale()]
        for stage in self.stages:
            out.append(out[-1].up(stage.up))
        return tuple(out)

    @property
    def hop_length(self) -> int:
        return self.scales[-1].scale

    def length(self, frames: int) -> int:
        """Samples of audio for ``frames`` input frames."""
        return self.scales[-1].length(frames)

    @property
    def receptive_field(self) -> int:
        """Frames each side that one frame's audio depends on."""
        first, last = 0, self.hop_length - 1
        halo = self.conv_post.halo + self.activation_post.halo
        first, last = first - halo, last + halo
        for stage in reversed(self.stages):
            first, last = first - stage.halo, last + stage.halo
            first, last = stage.up.inputs(first, last)
        first, last = first - self.head.halo, last + self.head.halo
        return max(-first, last)

    @property
    def convs(self) -> tuple[Conv1d | ConvTranspose1d, ...]:
        """Every convolution but ``cond``, in order."""
        out: list[Conv1d | ConvTranspose1d] = [self.head]
        for stage in self.stages:
            out += [stage.up, *stage.convs]
        return (*out, self.conv_post)

    @property
    def length_preserving(self) -> tuple[Conv1d, ...]:
        """Every convolution but the upsamplings and ``cond``, in order."""
        return tuple(c for c in self.convs if isinstance(c, Conv1d))

    def flops(self, frames: int) -> int:
        """Floating-point operations of all convolutions for one row of ``frames`` frames."""
        total = self.head.flops(frames)
        for before, after, stage in zip(self.scales, self.scales[1:], self.stages):
            total += stage.up.flops(before.length(frames))
            total += sum(c.flops(after.length(frames)) for c in stage.convs)
        return total + self.conv_post.flops(self.length(frames))

    @property
    def parameter_count(self) -> int:
        count = sum(c.weight_count for c in self.convs)
        return count + (self.cond.weight_count if self.cond else 0)

    def __str__(self) -> str:
        lines = [
            f"{self.family}: {self.head.C_in} channels in, hop {self.hop_length}, receptive field "
            f"{self.receptive_field} frames each side, {self.parameter_count / 1e6:.1f} M weights, "
            f"{self.flops(1) / 1e6:.0f} MFLOP per frame"
        ]
        for scale, stage in zip(self.scales[1:], self.stages):
            up = stage.up
            kernels = [branch[0].convs[0].K for branch in stage.branches]
            lines.append(
                f"  {up.C_in:>4} -> {up.C_out:<4} stride {up.stride:<2} kernel {up.K:<2} "
                f"branches {kernels} at {scale.scale} samples per frame"
            )
        return "\n".join(lines)
