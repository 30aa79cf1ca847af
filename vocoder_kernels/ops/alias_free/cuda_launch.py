"""Anti-aliased snake on the CUDA core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..cuda_core import DTYPE_CODES, address, core, core_support, place_of
from ..support import Support, Target, expect_buffers, expect_shape
from .desc import TAPS, AliasFreeDesc, pack_filters

NAME = "alias_free"
THREADS = 128
MOST_TENSORS = 3

pack = pack_filters


@dataclass(frozen=True)
class AliasFreeConfig:
    """A thread walks ``rows`` samples of one channel; bits do not depend on it."""

    rows: int


def can_run(desc: AliasFreeDesc, target: Target) -> Support:
    if desc.dtype_in not in (torch.float32, desc.dtype):
        return Support(
            False, f"{NAME}: reads float32 or its output dtype {desc.dtype}, not {desc.dtype_in}"
        )
    if not 1 <= desc.tensors <= MOST_TENSORS:
        return Support(
            False,
            f"{NAME}: the CUDA C++ kernel takes 1 to {MOST_TENSORS} tensors, got {desc.tensors}",
        )
    if desc.mean > 1:
        return Support(False, f"{NAME}: the CUDA C++ kernel takes no mean of inputs")
    return core_support(target, desc.dtype)


def choose_config(desc: AliasFreeDesc, B: int, T_cap: int, target: Target) -> AliasFreeConfig:
    """Walks as long as leaves every multiprocessor six CTAs: six samples before each are computed
    twice."""
    wanted = 6 * target.multiprocessors
    for rows in (64, 32, 16):
        ctas = desc.tensors * B * -(-(-(-T_cap // rows) * desc.C) // THREADS)
        if ctas >= wanted:
            break
    return AliasFreeConfig(rows)


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
    expect_buffers(NAME, "inputs", inputs, desc.tensors, desc.C)
    expect_buffers(NAME, "outputs", outputs, desc.tensors, desc.C)
    expect_shape(NAME, "filters", filters, (2 * TAPS,), torch.float32)
    B, T_cap, _ = inputs[0].shape
    core().alias_free(
        branches=[
            (address(x), address(y), address(a), address(b))
            for x, y, a, b in zip(inputs, outputs, alpha, inv_beta)
        ],
        filters=address(filters),
        ranges=address(ranges),
        B=B,
        T_cap=T_cap,
        C=desc.C,
        scale=desc.scale,
        extra=desc.extra,
        dtype_in=DTYPE_CODES[desc.dtype_in],
        dtype_out=DTYPE_CODES[desc.dtype],
        tile=config.rows,
        **place_of(ranges),
    )
