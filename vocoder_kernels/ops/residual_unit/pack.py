"""Weights of a narrow convolution in the order the tensor cores take them."""

from __future__ import annotations

import torch

GROUP = 8
"""Channels per group; two groups, of one tap or of two neighbouring ones, make a k16 step."""


def pack_weight(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``[C, C, K]`` (out, in, tap) to mma B fragments, flat.

    Step ``s`` multiplies groups ``2s`` and ``2s + 1`` of ``K * C / 8`` (tap-major); a last half
    without a group has zero weights, and one spare step of zeros follows, which the kernel
    requests but never uses. Within a step, output channels come in pairs of groups, 16 bytes per
    lane: ``{group n: k 0-7, k 8-15}, {group n + 1: k 0-7, k 8-15}``, lane ``4 g + q`` holding
    output channel ``g`` and input channels ``2 q, 2 q + 1``; an odd last group takes 8 bytes per
    lane.
    """
    C_out, C_in, K = weight.shape
    if C_out != C_in or C_in % GROUP:
        raise ValueError(
            "residual_unit: weight must be [C, C, K] with C a multiple of 8, got "
            f"{tuple(weight.shape)}"
        )
    groups = C_in // GROUP
    steps = (K * groups + 1) // 2 + 1
    by_group = weight.detach().to(dtype).permute(2, 1, 0).reshape(K * groups, GROUP, C_out)
    padded = by_group.new_zeros(2 * steps, GROUP, C_out)
    padded[: K * groups] = by_group
    # step, half, q, i, n, g -> step, n, g, q, half, i
    fragments = padded.view(steps, 2, 4, 2, groups, GROUP).permute(0, 4, 5, 2, 1, 3)
    even = groups // 2 * 2
    pairs = fragments[:, :even].reshape(steps, even // 2, 2, GROUP, 4, 2, 2)
    pairs = pairs.permute(0, 1, 3, 4, 2, 5, 6).reshape(steps, -1)
    rest = fragments[:, even:].reshape(steps, -1)
    return torch.cat([pairs, rest], dim=1).reshape(-1).contiguous()


def packed_size(C: int, K: int) -> int:
    """Elements of `pack_weight`."""
    return ((K * (C // GROUP) + 1) // 2 + 1) * 2 * GROUP * C
