"""Last convolution on the CUDA core."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..cuda_core import DTYPE_CODES, address, core, core_support, place_of
from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from .desc import SnakeWeights, TailDesc
from .desc import pack as pack_taps

NAME = "tail"
MOST_INPUTS = 3
MOST_TAPS = 64
NO_ACTIVATION, LEAKY_RELU, SNAKE = 0, 1, 2
ENDS = {"tanh": 1, "clamp": 2}
SHARED_BYTES = 48 * 1024
FEWEST_THREADS = 64


@dataclass(frozen=True)
class TailConfig:
    """The launch derives its tile from C_in and K: there is nothing to choose."""


def _pitch(C: int) -> int:
    """Floats per row of channels: an odd number of fours."""
    return 4 * (-(-C // 4) | 1)


def pack(weight: torch.Tensor) -> torch.Tensor:
    """``[1, C_in, K]`` to fp32 ``[K, pitch]``, zero beyond C_in."""
    taps = pack_taps(weight)
    packed = taps.new_zeros(taps.shape[0], _pitch(taps.shape[1]))
    packed[:, : taps.shape[1]] = taps
    return packed


def can_run(desc: TailDesc, target: Target) -> Support:
    if desc.end not in ENDS:
        return Support(False, f"{NAME}: end: expected tanh or clamp, got {desc.end!r}")
    if desc.K % 2 == 0 or desc.K > MOST_TAPS:
        return Support(
            False, f"{NAME}: expected an odd kernel size up to {MOST_TAPS - 1}, got {desc.K}"
        )
    if not 1 <= desc.inputs <= MOST_INPUTS:
        return Support(
            False, f"{NAME}: the CUDA C++ kernel takes 1 to {MOST_INPUTS} inputs, got {desc.inputs}"
        )
    if desc.snake and desc.dtype_in != torch.float32:
        return Support(False, f"{NAME}: with a snake the inputs must be float32 streams")
    rows = FEWEST_THREADS + desc.K - 1
    shared = 4 * _pitch(desc.C_in) * (2 * rows + 12 if desc.snake else rows)
    if shared > SHARED_BYTES:
        return Support(
            False,
            f"{NAME}: {desc.C_in} channels need {shared} bytes of shared memory, 49152 are there",
        )
    return slope_support(NAME, desc.slope) and core_support(target, desc.dtype_in)


def choose_config(desc: TailDesc, B: int, T_cap: int, target: Target) -> TailConfig:
    return TailConfig()


def launch(
    desc: TailDesc,
    config: TailConfig,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ranges: torch.Tensor,
    out: torch.Tensor,
    snake: SnakeWeights | None = None,
) -> None:
    """``weight`` as packed here, ``bias: [1]`` fp32; ``out: [B, >= T_cap]`` in float32, float16 or
    bfloat16, samples dense, rows of any stride; ``snake``: for a description with one."""
    expect_buffers(NAME, "inputs", inputs, desc.inputs, desc.C_in)
    expect_shape(NAME, "weight", weight, (desc.K, _pitch(desc.C_in)), torch.float32)
    B, T_cap, _ = inputs[0].shape
    if out.dim() != 2 or out.shape[0] != B or out.shape[1] < T_cap or out.stride(1) != 1:
        raise ValueError(
            f"{NAME}: out: expected [{B}, at least {T_cap}] with dense samples, "
            f"got {list(out.shape)} with strides {list(out.stride())}"
        )
    if desc.snake != (snake is not None) or out.dtype not in DTYPE_CODES:
        raise ValueError(
            f"{NAME}: expected snake weights exactly if the description has a snake, and out in "
            f"float32, float16 or bfloat16, got {snake is not None} for {desc.snake}, {out.dtype}"
        )
    activation = SNAKE if desc.snake else LEAKY_RELU if desc.slope != 1.0 else NO_ACTIVATION
    alpha, inv_beta, filters = (0, 0, 0) if snake is None else map(address, snake)
    core().tail(
        inputs=[address(x) for x in inputs],
        weight=address(weight),
        bias=address(bias) if desc.bias else 0,
        alpha=alpha,
        inv_beta=inv_beta,
        filters=filters,
        out=address(out),
        ranges=address(ranges),
        out_stride=out.stride(0),
        B=B,
        T_cap=T_cap,
        C=desc.C_in,
        K=desc.K,
        scale=desc.scale,
        extra=desc.extra,
        slope=desc.slope,
        activation=activation,
        end=ENDS[desc.end],
        dtype_in=DTYPE_CODES[desc.dtype_in],
        dtype_out=DTYPE_CODES[out.dtype],
        **place_of(ranges),
    )
