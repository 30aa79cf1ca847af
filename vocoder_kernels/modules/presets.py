"""The vocoder of each GPT-SoVITS version by name, with random weights that keep activations near
unit variance."""

from __future__ import annotations

import math

import torch
from torch import nn

from .bigvgan import BigVGAN, Snake, SnakeBeta
from .hifigan import Generator

_MRF = {
    "resblock": "1",
    "resblock_kernel_sizes": (3, 7, 11),
    "resblock_dilation_sizes": ((1, 3, 5),) * 3,
}
_V2 = {
    **_MRF,
    "initial_channel": 192,
    "upsample_rates": (10, 8, 2, 2, 2),
    "upsample_initial_channel": 512,
    "upsample_kernel_sizes": (16, 16, 8, 2, 2),
    "gin_channels": 512,
}

PRESETS: dict[str, dict] = {
    "v2": _V2,
    "v2pro": {**_V2, "gin_channels": 1024},
    "v2proplus": {
        **_V2,
        "gin_channels": 1024,
        "upsample_initial_channel": 768,
        "upsample_kernel_sizes": (20, 16, 8, 2, 2),
    },
    "v4": {
        **_MRF,
        "initial_channel": 100,
        "upsample_rates": (10, 6, 2, 2, 2),
        "upsample_initial_channel": 512,
        "upsample_kernel_sizes": (20, 12, 4, 4, 4),
        "is_bias": True,
    },
    "v3": {
        **_MRF,
        "num_mels": 100,
        "upsample_rates": (4, 4, 2, 2, 2, 2),
        "upsample_initial_channel": 1536,
        "upsample_kernel_sizes": (8, 8, 4, 4, 4, 4),
        "activation": "snakebeta",
        "snake_logscale": True,
        "use_bias_at_final": False,
        "use_tanh_at_final": False,
    },
}
SAMPLE_RATE_HZ = {"v2": 32000, "v2pro": 32000, "v2proplus": 32000, "v4": 48000, "v3": 24000}


def randomise_(module: nn.Module, seed: int = 0) -> nn.Module:
    """Fill a vocoder with weights that keep activations near unit variance, so that its output is
    neither silence nor saturated. In place; returns the module."""
    generator = torch.Generator().manual_seed(seed)
    snakes = any(isinstance(layer, (Snake, SnakeBeta)) for layer in module.modules())
    # A LeakyReLU halves the power; a snake adds some, and a sine squared has a mean besides.
    up_gain, post_gain = (0.62, 0.25) if snakes else (0.866, 0.5)

    def normal(shape: torch.Size, std: float) -> torch.Tensor:
        return torch.randn(shape, generator=generator) * std

    with torch.no_grad():
        for name, layer in module.named_modules():
            if isinstance(layer, nn.Conv1d):
                fan_in = layer.in_channels * layer.kernel_size[0]
                gain = 0.4 if "resblocks" in name else post_gain if name == "conv_post" else 1.0
                layer.weight.copy_(normal(layer.weight.shape, gain * math.sqrt(2.0 / fan_in)))
            elif isinstance(layer, nn.ConvTranspose1d):
                taps = layer.kernel_size[0] / layer.stride[0]
                std = up_gain * math.sqrt(2.0 / (layer.in_channels * taps))
                layer.weight.copy_(normal(layer.weight.shape, std))
            elif isinstance(layer, (Snake, SnakeBeta)):
                for parameter in layer.parameters():
                    parameter.add_(normal(parameter.shape, 0.3))
            if getattr(layer, "bias", None) is not None:
                layer.bias.copy_(normal(layer.bias.shape, 0.1))
    return module


def build(version: str, seed: int = 0) -> nn.Module:
    """The vocoder of a GPT-SoVITS ``version``, a key of `PRESETS`: random weights, eval mode.

    Raises ``ValueError`` for an unknown version.
    """
    if version not in PRESETS:
        raise ValueError(f"version: expected one of {', '.join(PRESETS)}, got {version!r}")
    config = PRESETS[version]
    module = BigVGAN(**config) if "num_mels" in config else Generator(**config)
    return randomise_(module, seed).eval()
