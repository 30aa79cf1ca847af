from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..support import Support, Target, compute_support, expect_buffers, expect_shape
from ..tile import next_power_of_2
from .desc import TAPS, AliasFreeDesc, pack_filters
from .triton_kernel import alias_free_kernel

NAME = "alias_free"
UNROLL = 4

pack = pack_filters


@dataclass(frozen=True)
class AliasFreeConfig:
    """A CTA does ``segments`` walks of ``rows`` samples for ``BC`` channels; bits do not depend
    on it."""

    BC: int
    segments: int
    rows: int
    num_warps: int = 4


def can_run(desc: AliasFreeDesc, target: Target) -> Support:
    if desc.dtype_in not in (torch.float32, desc.dtype):
        return Support(
            False, f"{NAME}: reads float32 or its output dtype {desc.dtype}, not {desc.dtype_in}"
        )
    if desc.mean > 1 and desc.tensors != 1:
        return Support(False, f"{NAME}: a mean has one output, not {desc.tensors}")
    return compute_support(target, desc.dtype)


def choose_config(desc: AliasFreeDesc, B: int, T_cap: int, target: Target) -> AliasFreeConfig:
    """Channels of a CTA divide C where they can; walks are as long as leaves every multiprocessor
    four CTAs, since the six samples before each walk are computed twice."""
    BC = min(128, desc.C & -desc.C)
    if BC < 8:
        BC = min(128, next_power_of_2(desc.C))
    segments = 128 // BC
    wanted = 4 * target.multiprocessors
    for rows in (64, 32, 16):
        ctas = desc.tensors * B * -(-desc.C // BC) * -(-T_cap // (segments * rows))
        if ctas >= wanted:
            break
    return AliasFreeConfig(BC, segments, rows)


def launch(
    desc: AliasFreeDesc,
    config: AliasFreeConfig,
    inputs: Sequence[torch.Tensor],
    alpha: Sequence[torch.Tensor],
    inv_beta: Sequence[torch.Tensor],
    filters: torch.Tensor,
    ranges: torch.Tensor,
    outputs: Sequence[torch.Tensor],
) -> None:
    """One of each per tensor: ``alpha``, ``inv_beta``: ``[C]`` fp32; ``filters`` as packed. An
    output must not be any of the inputs."""
    expect_buffers(NAME, "inputs", inputs, desc.tensors * desc.mean, desc.C)
    expect_buffers(NAME, "outputs", outputs, desc.tensors, desc.C)
    expect_shape(NAME, "filters", filters, (2 * TAPS,), torch.float32)
    B, T_cap, _ = inputs[0].shape
    tiles_t = -(-T_cap // (config.segments * config.rows))
    grid = (-(-desc.C // config.BC) * tiles_t * B * desc.tensors,)
    alias_free_kernel[grid](
        tuple(inputs),
        tuple(outputs),
        tuple(alpha),
        tuple(inv_beta),
        filters,
        ranges,
        T_cap,
        desc.scale,
        desc.extra,
        B,
        tiles_t,
        TENSORS=desc.tensors,
        MEAN=desc.mean,
        C=desc.C,
        SEGMENTS=config.segments,
        ROWS=config.rows,
        UNROLL=UNROLL,
        BC=config.BC,
        num_warps=config.num_warps,
        enable_fp_fusion=True,
    )
