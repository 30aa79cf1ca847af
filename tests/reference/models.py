"""Vocoders as ``nn.Module`` for tests: the layers of the published classes, their forward from
`functional`, random weights that keep activations near unit variance.

The forward differs in code from `vocoder_kernels.modules`; only parameter names are common.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations

try:
    from torch.nn.utils import weight_norm as old_weight_norm
except ImportError:  # removed in some future torch
    old_weight_norm = None

NORMS = ("none", "old", "parametrized")


def same_conv(c_in: int, c_out: int, kernel: int, dilation: int = 1, bias: bool = True):
    padding = dilation * (kernel - 1) // 2
    return nn.Conv1d(c_in, c_out, kernel, dilation=dilation, padding=padding, bias=bias)


class Block(nn.Module):
    """Residual block "1" or "2"; with ``activation`` also anti-aliased snakes."""

    def __init__(self, kind, channels, kernel, dilations, activation=None):
        super().__init__()
        per_unit = 2 if kind == "1" else 1
        first = [same_conv(channels, channels, kernel, d) for d in dilations]
        if kind == "1":
            self.convs1 = nn.ModuleList(first)
            self.convs2 = nn.ModuleList(same_conv(channels, channels, kernel) for _ in dilations)
        else:
            self.convs = nn.ModuleList(first)
        if activation is not None:
            self.activations = nn.ModuleList(
                activation(channels) for _ in range(per_unit * len(dilations))
            )

    def forward(self, x):
        acts = getattr(self, "activations", None)
        if hasattr(self, "convs"):
            for i, conv in enumerate(self.convs):
                x = conv(acts[i](x) if acts else F.leaky_relu(x, 0.1)) + x
            return x
        for i, (conv1, conv2) in enumerate(zip(self.convs1, self.convs2)):
            y = conv1(acts[2 * i](x) if acts else F.leaky_relu(x, 0.1))
            x = conv2(acts[2 * i + 1](y) if acts else F.leaky_relu(y, 0.1)) + x
        return x


class Generator(nn.Module):
    """HiFi-GAN."""

    def __init__(
        self,
        initial_channel,
        resblock,
        resblock_kernel_sizes,
        resblock_dilation_sizes,
        upsample_rates,
        upsample_initial_channel,
        upsample_kernel_sizes,
        gin_channels=0,
        is_bias=False,
    ):
        super().__init__()
        self.num_kernels = len(resblock_kernel_sizes)
        self.num_upsamples = len(upsample_rates)
        channels = upsample_initial_channel
        self.conv_pre = same_conv(initial_channel, channels, 7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernel_sizes):
            padding = (kernel - rate) // 2
            self.ups.append(
                nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=padding)
            )
            channels //= 2
            for k, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes):
                self.resblocks.append(Block(resblock, channels, k, dilations))
        self.conv_post = same_conv(channels, 1, 7, bias=is_bias)
        if gin_channels:
            self.cond = nn.Conv1d(gin_channels, upsample_initial_channel, 1)

    def forward(self, x, g=None):
        x = self.conv_pre(x)
        if g is not None:
            x = x + self.cond(g)
        for i in range(self.num_upsamples):
            x = self.ups[i](F.leaky_relu(x, 0.1))
            first = i * self.num_kernels
            total = self.resblocks[first](x)
            for j in range(1, self.num_kernels):
                total = total + self.resblocks[first + j](x)
            x = total / self.num_kernels
        return torch.tanh(self.conv_post(F.leaky_relu(x)))


class Snake(nn.Module):
    def __init__(self, channels, beta, logscale):
        super().__init__()
        self.alpha_logscale = logscale
        self.alpha = nn.Parameter(torch.full((channels,), 0.0 if logscale else 1.0))
        if beta:
            self.beta = nn.Parameter(self.alpha.detach().clone())

    def forward(self, x):
        alpha = self.alpha[None, :, None]
        beta = self.beta[None, :, None] if hasattr(self, "beta") else alpha
        if self.alpha_logscale:
            alpha, beta = alpha.exp(), beta.exp()
        return x + torch.sin(alpha * x) ** 2 / (beta + 1e-9)


class Resample(nn.Module):
    """Holds the filter; ``taps`` is an arbitrary smooth low-pass of unit sum."""

    def __init__(self, taps):
        super().__init__()
        self.register_buffer("filter", taps.view(1, 1, -1).clone())


class Downsample(nn.Module):
    def __init__(self, taps):
        super().__init__()
        self.lowpass = Resample(taps)


class AntiAliased(nn.Module):
    def __init__(self, channels, beta, logscale):
        super().__init__()
        time = torch.arange(12) - 5.5
        up = torch.sinc(time / 2) * torch.cos(math.pi * time / 13)
        down = torch.sinc(time / 2.1) * torch.cos(math.pi * time / 12.5)
        self.act = Snake(channels, beta, logscale)
        self.upsample = Resample(up / up.sum())
        self.downsample = Downsample(down / down.sum())

    def forward(self, x):
        channels = x.shape[1]
        up = self.upsample.filter.expand(channels, -1, -1)
        down = self.downsample.lowpass.filter.expand(channels, -1, -1)
        x = F.pad(x, (5, 5), mode="replicate")
        x = 2 * F.conv_transpose1d(x, up, stride=2, groups=channels)
        x = self.act(x[..., 15:-15])
        return F.conv1d(F.pad(x, (5, 6), mode="replicate"), down, stride=2, groups=channels)


class BigVGAN(nn.Module):
    def __init__(
        self,
        num_mels,
        resblock,
        resblock_kernel_sizes,
        resblock_dilation_sizes,
        upsample_rates,
        upsample_initial_channel,
        upsample_kernel_sizes,
        activation,
        snake_logscale,
        use_bias_at_final,
        use_tanh_at_final,
    ):
        super().__init__()

        def act(channels):
            return AntiAliased(channels, activation == "snakebeta", snake_logscale)

        self.num_kernels = len(resblock_kernel_sizes)
        self.num_upsamples = len(upsample_rates)
        self.use_tanh_at_final = use_tanh_at_final
        channels = upsample_initial_channel
        self.conv_pre = same_conv(num_mels, channels, 7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, kernel in zip(upsample_rates, upsample_kernel_sizes):
            padding = (kernel - rate) // 2
            up = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=padding)
            self.ups.append(nn.ModuleList([up]))
            channels //= 2
            for k, dilations in zip(resblock_kernel_sizes, resblock_dilation_sizes):
                self.resblocks.append(Block(resblock, channels, k, dilations, act))
        self.activation_post = act(channels)
        self.conv_post = same_conv(channels, 1, 7, bias=use_bias_at_final)

    def forward(self, x):
        x = self.conv_pre(x)
        for i in range(self.num_upsamples):
            x = self.ups[i][0](x)
            first = i * self.num_kernels
            total = self.resblocks[first](x)
            for j in range(1, self.num_kernels):
                total = total + self.resblocks[first + j](x)
            x = total / self.num_kernels
        x = self.conv_post(self.activation_post(x))
        return torch.tanh(x) if self.use_tanh_at_final else x.clamp(-1.0, 1.0)


def randomise_(module: nn.Module, seed: int) -> nn.Module:
    """Weights for activations near unit variance and audio that is neither silent nor clipped."""
    generator = torch.Generator().manual_seed(seed)

    def normal(tensor: torch.Tensor, std: float) -> torch.Tensor:
        return torch.randn(tensor.shape, generator=generator).to(tensor) * std

    with torch.no_grad():
        for name, layer in module.named_modules():
            if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
                taps = layer.kernel_size[0]
                if isinstance(layer, nn.ConvTranspose1d):
                    taps = max(1.0, taps / layer.stride[0])
                gain = 0.5 if "resblocks" in name or name == "conv_post" else 1.4
                std = gain / math.sqrt(layer.in_channels * taps)
                layer.weight.copy_(normal(layer.weight, std))
                if layer.bias is not None:
                    layer.bias.copy_(normal(layer.bias, 0.1))
            elif isinstance(layer, Snake):
                for parameter in layer.parameters():
                    spread = normal(parameter, 0.3)
                    parameter.copy_(spread if layer.alpha_logscale else spread.exp())
    return module


def apply_norm_(module: nn.Module, norm: str) -> nn.Module:
    """Put weight norm on every convolution but ``conv_pre``, ``conv_post`` and ``cond``."""
    for name, layer in list(module.named_modules()):
        if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)) and "." in name:
            if norm == "old":
                old_weight_norm(layer)
            elif norm == "parametrized":
                parametrizations.weight_norm(layer)
    return module


def build(config: dict, seed: int = 0, norm: str = "none") -> nn.Module:
    """A vocoder of ``config`` in eval mode."""
    kind = BigVGAN if "num_mels" in config else Generator
    return apply_norm_(randomise_(kind(**config), seed), norm).eval()


def inputs(
    config: dict, frames: int, batch: int = 1, seed: int = 1
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """``x: [B, C_in, T]`` and, for a model with conditioning, ``g: [B, gin, 1]``."""
    generator = torch.Generator().manual_seed(seed)
    channels = config.get("num_mels", config.get("initial_channel"))
    x = torch.randn(batch, channels, frames, generator=generator)
    gin = config.get("gin_channels", 0)
    return x, torch.randn(batch, gin, 1, generator=generator) if gin else None
