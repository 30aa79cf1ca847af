"""Polyphase transposed convolution on the CUDA core's tensor-core kernel."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..cuda_conv import (
    ACTIVATED,
    MEAN,
    ConvTile,
    choose_conv_tile,
    pack_fragments,
    packed_size,
    tiles_for,
)
from ..cuda_core import DTYPE_CODES, address, core, place_of, tensor_core_support
from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from .desc import UpsampleDesc
from .desc import pack as pack_phases

NAME = "upsample"
MOST_INPUTS = 4


def pack(weight: torch.Tensor, stride: int, dtype: torch.dtype) -> torch.Tensor:
    """``[C_in, C_out, K]`` to the kernel's order, flat; the kernel's taps run forwards in time."""
    return pack_fragments(pack_phases(weight, stride, dtype).flip(0), dtype)


def _source(desc: UpsampleDesc) -> int:
    return MEAN if desc.inputs else ACTIVATED


def can_run(desc: UpsampleDesc, target: Target) -> Support:
    if not desc.stream and not desc.activated:
        return Support(False, f"{NAME}: writes nothing; ask for stream, activated or both")
    if desc.inputs > MOST_INPUTS:
        return Support(
            False, f"{NAME}: the CUDA C++ kernel takes the mean of at most {MOST_INPUTS} inputs"
        )
    if desc.C_in % 8 or desc.C_out % 4:
        return Support(
            False,
            f"{NAME}: the CUDA C++ kernel takes C_in in eights and C_out in fours, "
            f"got {desc.C_in} and {desc.C_out}",
        )
    slope = max(desc.slope_in, desc.slope_out)
    support = slope_support(NAME, slope) and tensor_core_support(target, desc.dtype)
    if support and not tiles_for(_source(desc), desc.taps - 1):
        return Support(False, f"{NAME}: {desc.taps} taps exceed shared memory")
    return support


def choose_config(desc: UpsampleDesc, B: int, T_cap: int, target: Target) -> ConvTile:
    """``T_cap`` is the capacity of the input."""
    rows = B * (T_cap + desc.taps - 1)
    columns = desc.stride * desc.C_out
    return choose_conv_tile(_source(desc), desc.taps - 1, rows, columns, target)


def launch(
    desc: UpsampleDesc,
    config: ConvTile,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ranges: torch.Tensor,
    stream: torch.Tensor | None = None,
    activated: torch.Tensor | None = None,
) -> None:
    """``inputs``: ``desc.inputs`` fp32 tensors, or one in the compute dtype; ``weight`` as packed
    here; ``bias: [C_out]`` fp32. The outputs hold at least ``T_cap * stride + extra`` samples."""
    columns = desc.stride * desc.C_out
    size = packed_size(desc.taps, desc.C_in, columns)
    expect_buffers(NAME, "inputs", inputs, max(1, desc.inputs), desc.C_in)
    expect_shape(NAME, "weight", weight, (size,), desc.dtype)
    outputs = [y for y in (stream, activated) if y is not None]
    expect_buffers(NAME, "stream and activated", outputs, desc.stream + desc.activated, desc.C_out)
    B, T_cap, _ = inputs[0].shape
    core().upsample(
        inputs=[address(x) for x in inputs],
        mean=desc.inputs > 0,
        weight=address(weight),
        bias=address(bias) if desc.bias else 0,
        out_stream=address(stream),
        activated=address(activated),
        ranges=address(ranges),
        B=B,
        T_in_cap=T_cap,
        T_out_cap=outputs[0].shape[1],
        C_in=desc.C_in,
        C_out=desc.C_out,
        taps=desc.taps,
        stride=desc.stride,
        padding=desc.padding,
        scale_in=desc.scale,
        extra_in=desc.extra,
        scale_out=desc.scale_out,
        extra_out=desc.extra_out,
        slope_in=desc.slope_in,
        slope_out=desc.slope_out,
        dtype=DTYPE_CODES[desc.dtype],
        tile=config.index,
        **place_of(ranges),
    )
