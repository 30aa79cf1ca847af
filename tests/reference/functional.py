"""HiFi-GAN and BigVGAN as pure functions of a state dict, in the dtype of its tensors.

Written from the papers and the checkpoints' names alone, so that a mistake in the package's
description of a vocoder cannot hide here.
"""

from __future__ import annotations

import torch
from torch.nn import functional as F

Weights = dict


def conv_weight(state: Weights, name: str) -> torch.Tensor:
    """Plain, or folded from either form of weight norm (over all dimensions but the first)."""
    for g_name, v_name in (
        ("weight_g", "weight_v"),
        ("parametrizations.weight.original0", "parametrizations.weight.original1"),
    ):
        if f"{name}.{g_name}" in state:
            g, v = state[f"{name}.{g_name}"], state[f"{name}.{v_name}"]
            norm = v.flatten(1).norm(dim=1).view(-1, *[1] * (v.dim() - 1))
            return v * (g / norm)
    return state[f"{name}.weight"]


def conv(state: Weights, name: str, x: torch.Tensor, dilation: int = 1) -> torch.Tensor:
    weight = conv_weight(state, name)
    padding = dilation * (weight.shape[2] - 1) // 2
    bias = state.get(f"{name}.bias")
    return F.conv1d(x, weight, bias, padding=padding, dilation=dilation)


def upsample(state: Weights, name: str, x: torch.Tensor, rate: int) -> torch.Tensor:
    weight = conv_weight(state, name)
    padding = (weight.shape[2] - rate) // 2
    return F.conv_transpose1d(x, weight, state.get(f"{name}.bias"), stride=rate, padding=padding)


def hifigan(
    state: Weights, config: dict, x: torch.Tensor, g: torch.Tensor | None = None
) -> torch.Tensor:
    """``x: [B, C_in, T]``, ``g: [B, gin, 1]`` to ``[B, 1, L]``."""
    x = conv(state, "conv_pre", x)
    if g is not None:
        x = x + conv(state, "cond", g)
    kernels = len(config["resblock_kernel_sizes"])
    for i, rate in enumerate(config["upsample_rates"]):
        x = upsample(state, f"ups.{i}", F.leaky_relu(x, 0.1), rate)
        branches = []
        for j, dilations in enumerate(config["resblock_dilation_sizes"]):
            y, block = x, f"resblocks.{i * kernels + j}"
            for k, dilation in enumerate(dilations):
                if config["resblock"] == "1":
                    z = conv(state, f"{block}.convs1.{k}", F.leaky_relu(y, 0.1), dilation)
                    z = conv(state, f"{block}.convs2.{k}", F.leaky_relu(z, 0.1))
                else:
                    z = conv(state, f"{block}.convs.{k}", F.leaky_relu(y, 0.1), dilation)
                y = y + z
            branches.append(y)
        x = torch.stack(branches).sum(0) / kernels
    return torch.tanh(conv(state, "conv_post", F.leaky_relu(x, 0.01)))


def snake(state: Weights, name: str, config: dict, x: torch.Tensor) -> torch.Tensor:
    """Anti-aliased: 2x up, ``x + sin(alpha x)^2 / beta``, 2x down, the ends replicated."""
    channels = x.shape[1]
    up = state[f"{name}.upsample.filter"].expand(channels, 1, -1)
    down = state[f"{name}.downsample.lowpass.filter"].expand(channels, 1, -1)
    alpha = state[f"{name}.act.alpha"]
    beta = state.get(f"{name}.act.beta", alpha)
    if config["snake_logscale"]:
        alpha, beta = alpha.exp(), beta.exp()
    x = F.pad(x, (5, 5), mode="replicate")
    x = 2 * F.conv_transpose1d(x, up, stride=2, groups=channels)[:, :, 15:-15]
    x = x + torch.sin(alpha[None, :, None] * x) ** 2 / (beta[None, :, None] + 1e-9)
    return F.conv1d(F.pad(x, (5, 6), mode="replicate"), down, stride=2, groups=channels)


def bigvgan(state: Weights, config: dict, x: torch.Tensor) -> torch.Tensor:
    """``x: [B, num_mels, T]`` to ``[B, 1, L]``."""
    x = conv(state, "conv_pre", x)
    kernels = len(config["resblock_kernel_sizes"])
    for i, rate in enumerate(config["upsample_rates"]):
        x = upsample(state, f"ups.{i}.0", x, rate)
        branches = []
        for j, dilations in enumerate(config["resblock_dilation_sizes"]):
            y, block = x, f"resblocks.{i * kernels + j}"
            for k, dilation in enumerate(dilations):
                if config["resblock"] == "1":
                    z = snake(state, f"{block}.activations.{2 * k}", config, y)
                    z = conv(state, f"{block}.convs1.{k}", z, dilation)
                    z = snake(state, f"{block}.activations.{2 * k + 1}", config, z)
                    z = conv(state, f"{block}.convs2.{k}", z)
                else:
                    z = snake(state, f"{block}.activations.{k}", config, y)
                    z = conv(state, f"{block}.convs.{k}", z, dilation)
                y = y + z
            branches.append(y)
        x = torch.stack(branches).sum(0) / kernels
    x = conv(state, "conv_post", snake(state, "activation_post", config, x))
    return torch.tanh(x) if config["use_tanh_at_final"] else x.clamp(-1, 1)


def run(
    state: Weights, config: dict, x: torch.Tensor, g: torch.Tensor | None = None
) -> torch.Tensor:
    """Either vocoder, in float64 whatever the dtype of the weights."""
    state = {name: value.detach().double() for name, value in state.items()}
    if "num_mels" in config:
        return bigvgan(state, config, x.detach().double())
    g = g if g is None else g.detach().double()
    return hifigan(state, config, x.detach().double(), g)
