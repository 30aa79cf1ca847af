"""BigVGAN v2 (GPT-SoVITS v3). Parameter and buffer names match the published checkpoints.

Source: Lee et al., "BigVGAN" (arXiv:2206.04658); Ziyin et al., "Snake" (arXiv:2006.08195);
Karras et al., "StyleGAN3" (arXiv:2106.12423) for the anti-aliased activation.
"""

from __future__ import annotations

import math
from functools import reduce
from operator import add

import torch
from torch import nn
from torch.nn import functional as F

from .hifigan import same_padding


def kaiser_sinc_filter(cutoff: float, half_width: float, taps: int) -> torch.Tensor:
    """Kaiser-windowed sinc low-pass, an even number of taps: ``[1, 1, taps]`` float32, unit sum."""
    attenuation = 2.285 * (taps // 2 - 1) * math.pi * 4 * half_width + 7.95
    if attenuation > 50.0:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation >= 21.0:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21.0)
    else:
        beta = 0.0
    window = torch.kaiser_window(taps, beta=beta, periodic=False)
    time = torch.arange(-(taps // 2), taps // 2) + 0.5
    response = 2 * cutoff * window * torch.sinc(2 * cutoff * time)
    return (response / response.sum()).view(1, 1, taps)


class Snake(nn.Module):
    """``x + sin(alpha x)^2 / (alpha + 1e-9)`` per channel; alpha stored as a log if asked."""

    def __init__(self, channels: int, alpha_logscale: bool = False):
        super().__init__()
        self.alpha_logscale = alpha_logscale
        self.alpha = nn.Parameter(torch.zeros(channels) if alpha_logscale else torch.ones(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha = self.alpha[None, :, None]
        if self.alpha_logscale:
            alpha = alpha.exp()
        return x + torch.sin(x * alpha).square() / (alpha + 1e-9)


class SnakeBeta(nn.Module):
    """``x + sin(alpha x)^2 / (beta + 1e-9)`` per channel."""

    def __init__(self, channels: int, alpha_logscale: bool = False):
        super().__init__()
        self.alpha_logscale = alpha_logscale
        start = torch.zeros if alpha_logscale else torch.ones
        self.alpha = nn.Parameter(start(channels))
        self.beta = nn.Parameter(start(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        alpha, beta = self.alpha[None, :, None], self.beta[None, :, None]
        if self.alpha_logscale:
            alpha, beta = alpha.exp(), beta.exp()
        return x + torch.sin(x * alpha).square() / (beta + 1e-9)


class UpSample1d(nn.Module):
    def __init__(self, ratio: int = 2, kernel_size: int = 12):
        super().__init__()
        self.ratio = ratio
        self.stride = ratio
        self.kernel_size = kernel_size
        self.pad = kernel_size // ratio - 1
        self.pad_left = self.pad * ratio + (kernel_size - ratio) // 2
        self.pad_right = self.pad * ratio + (kernel_size - ratio + 1) // 2
        self.filter: torch.Tensor
        self.register_buffer("filter", kaiser_sinc_filter(0.5 / ratio, 0.6 / ratio, kernel_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        x = F.pad(x, (self.pad, self.pad), mode="replicate")
        weight = self.filter.expand(channels, -1, -1)
        x = self.ratio * F.conv_transpose1d(x, weight, stride=self.ratio, groups=channels)
        return x[..., self.pad_left : -self.pad_right]


class LowPassFilter1d(nn.Module):
    def __init__(self, cutoff: float, half_width: float, stride: int, kernel_size: int):
        super().__init__()
        self.stride = stride
        self.kernel_size = kernel_size
        self.pad_left = kernel_size // 2 - int(kernel_size % 2 == 0)
        self.pad_right = kernel_size // 2
        self.filter: torch.Tensor
        self.register_buffer("filter", kaiser_sinc_filter(cutoff, half_width, kernel_size))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        channels = x.shape[1]
        x = F.pad(x, (self.pad_left, self.pad_right), mode="replicate")
        weight = self.filter.expand(channels, -1, -1)
        return F.conv1d(x, weight, stride=self.stride, groups=channels)


class DownSample1d(nn.Module):
    def __init__(self, ratio: int = 2, kernel_size: int = 12):
        super().__init__()
        self.ratio = ratio
        self.kernel_size = kernel_size
        self.lowpass = LowPassFilter1d(0.5 / ratio, 0.6 / ratio, ratio, kernel_size)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lowpass(x)


class Activation1d(nn.Module):
    """2x up, activation, 2x down. ``x: [B, C, T]``, same shape out."""

    def __init__(self, activation: nn.Module):
        super().__init__()
        self.up_ratio = 2
        self.down_ratio = 2
        self.act = activation
        self.upsample = UpSample1d()
        self.downsample = DownSample1d()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.downsample(self.act(self.upsample(x)))


ACTIVATIONS = {"snake": Snake, "snakebeta": SnakeBeta}


def _conv(channels: int, kernel_size: int, dilation: int) -> nn.Conv1d:
    padding = same_padding(kernel_size, dilation)
    return nn.Conv1d(channels, channels, kernel_size, dilation=dilation, padding=padding)


class AMPBlock1(nn.Module):
    def __init__(self, channels, kernel_size, dilations, activation, logscale):
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(channels, kernel_size, d) for d in dilations)
        self.convs2 = nn.ModuleList(_conv(channels, kernel_size, 1) for _ in dilations)
        kind = ACTIVATIONS[activation]
        self.activations = nn.ModuleList(
            Activation1d(kind(channels, logscale)) for _ in range(2 * len(dilations))
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        acts = self.activations
        for i, (conv1, conv2) in enumerate(zip(self.convs1, self.convs2)):
            x = conv2(acts[2 * i + 1](conv1(acts[2 * i](x)))) + x
        return x


class AMPBlock2(nn.Module):
    def __init__(self, channels, kernel_size, dilations, activation, logscale):
        super().__init__()
        self.convs = nn.ModuleList(_conv(channels, kernel_size, d) for d in dilations)
        self.activations = nn.ModuleList(
            Activation1d(ACTIVATIONS[activation](channels, logscale)) for _ in dilations
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, act in zip(self.convs, self.activations):
            x = conv(act(x)) + x
        return x


class BigVGAN(nn.Module):
    """``forward(x: [B, num_mels, T]) -> [B, 1, T * hop]``."""

    def __init__(
        self,
        num_mels: int,
        resblock: str,
        resblock_kernel_sizes: tuple[int, ...],
        resblock_dilation_sizes: tuple[tuple[int, ...], ...],
        upsample_rates: tuple[int, ...],
        upsample_initial_channel: int,
        upsample_kernel_sizes: tuple[int, ...],
        activation: str = "snakebeta",
        snake_logscale: bool = True,
        use_bias_at_final: bool = True,
        use_tanh_at_final: bool = True,
    ):
        super().__init__()
        self.num_kernels = len(resblock_kernel_sizes)
        self.num_upsamples = len(upsample_rates)
        self.use_tanh_at_final = use_tanh_at_final
        self.conv_pre = nn.Conv1d(num_mels, upsample_initial_channel, 7, padding=3)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        block = {"1": AMPBlock1, "2": AMPBlock2}[str(resblock)]
        channels = upsample_initial_channel
        for rate, kernel_size in zip(upsample_rates, upsample_kernel_sizes):
            padding = (kernel_size - rate) // 2
            up = nn.ConvTranspose1d(channels, channels // 2, kernel_size, rate, padding=padding)
            self.ups.append(nn.ModuleList([up]))
            channels //= 2
            for k, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes):
                self.resblocks.append(
                    block(channels, k, tuple(dilations), activation, snake_logscale)
                )
        self.activation_post = Activation1d(ACTIVATIONS[activation](channels, snake_logscale))
        self.conv_post = nn.Conv1d(channels, 1, 7, padding=3, bias=use_bias_at_final)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv_pre(x)
        for i, ups in enumerate(self.ups):
            x = ups[0](x)  # type: ignore[index]
            blocks = self.resblocks[i * self.num_kernels : (i + 1) * self.num_kernels]
            x = reduce(add, (block(x) for block in blocks)) / self.num_kernels
        x = self.conv_post(self.activation_post(x))
        return torch.tanh(x) if self.use_tanh_at_final else x.clamp(-1.0, 1.0)
