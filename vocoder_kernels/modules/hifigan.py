"""HiFi-GAN ``Generator`` as GPT-SoVITS v1, v2, v2Pro, v2ProPlus and v4 use it.

Parameter names match the upstream checkpoints, so a ``state_dict`` loads unchanged.
Source: Kong et al., "HiFi-GAN" (arXiv:2010.05646).
"""

from __future__ import annotations

from functools import reduce
from operator import add

import torch
from torch import nn
from torch.nn import functional as F

LRELU_SLOPE = 0.1


def same_padding(kernel_size: int, dilation: int) -> int:
    """Padding that keeps the length of a stride-1 convolution with an odd kernel."""
    return dilation * (kernel_size - 1) // 2


class ResBlock1(nn.Module):
    """Three pairs of convolutions: dilated, then dilation 1. ``x: [B, C, T]``."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs1 = nn.ModuleList(
            nn.Conv1d(
                channels, channels, kernel_size, dilation=d, padding=same_padding(kernel_size, d)
            )
            for d in dilations
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=same_padding(kernel_size, 1))
            for _ in dilations
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv1, conv2 in zip(self.convs1, self.convs2):
            y = conv1(F.leaky_relu(x, LRELU_SLOPE))
            x = conv2(F.leaky_relu(y, LRELU_SLOPE)) + x
        return x


class ResBlock2(nn.Module):
    """One dilated convolution per residual unit. ``x: [B, C, T]``."""

    def __init__(self, channels: int, kernel_size: int, dilations: tuple[int, ...]):
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv1d(
                channels, channels, kernel_size, dilation=d, padding=same_padding(kernel_size, d)
            )
            for d in dilations
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv in self.convs:
            x = conv(F.leaky_relu(x, LRELU_SLOPE)) + x
        return x


class Generator(nn.Module):
    """``forward(x: [B, initial_channel, T], g: [B, gin_channels, 1] or None) -> [B, 1, L]``."""

    def __init__(
        self,
        initial_channel: int,
        resblock: str,
        resblock_kernel_sizes: tuple[int, ...],
        resblock_dilation_sizes: tuple[tuple[int, ...], ...],
        upsample_rates: tuple[int, ...],
        upsample_initial_channel: int,
        upsample_kernel_sizes: tuple[int, ...],
        gin_channels: int = 0,
        is_bias: bool = False,
    ):
        super().__init__()
        self.num_kernels = len(resblock_kernel_sizes)
        self.num_upsamples = len(upsample_rates)
        self.conv_pre = nn.Conv1d(initial_channel, upsample_initial_channel, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        block = {"1": ResBlock1, "2": ResBlock2}[str(resblock)]
        channels = upsample_initial_channel
        for rate, kernel_size in zip(upsample_rates, upsample_kernel_sizes):
            padding = (kernel_size - rate) // 2
            self.ups.append(
                nn.ConvTranspose1d(channels, channels // 2, kernel_size, rate, padding=padding)
            )
            channels //= 2
            for k, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes):
                self.resblocks.append(block(channels, k, tuple(dilations)))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=is_bias)
        if gin_channels:
            self.cond = nn.Conv1d(gin_channels, upsample_initial_channel, 1)

    def forward(self, x: torch.Tensor, g: torch.Tensor | None = None) -> torch.Tensor:
        x = self.conv_pre(x)
        if g is not None:
            x = x + self.cond(g)
        for i, up in enumerate(self.ups):
            x = up(F.leaky_relu(x, LRELU_SLOPE))
            blocks = self.resblocks[i * self.num_kernels : (i + 1) * self.num_kernels]
            x = reduce(add, (block(x) for block in blocks)) / self.num_kernels
        return torch.tanh(self.conv_post(F.leaky_relu(x)))
