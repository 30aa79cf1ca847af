from __future__ import annotations

from collections.abc import Sequence

import torch

from ..support import Support, Target, compute_support, expect_buffers, expect_shape, slope_support
from ..tile import Product, TileConfig, choose_tile
from .desc import UpsampleDesc, pack
from .triton_kernel import upsample_kernel

__all__ = ["NAME", "can_run", "choose_config", "launch", "pack"]

NAME = "upsample"


def can_run(desc: UpsampleDesc, target: Target) -> Support:
    if not desc.stream and not desc.activated:
        return Support(False, f"{NAME}: writes nothing; ask for stream, activated or both")
    slope = max(desc.slope_in, desc.slope_out)
    return slope_support(NAME, slope) and compute_support(target, desc.dtype)


def choose_config(desc: UpsampleDesc, B: int, T_cap: int, target: Target) -> TileConfig:
    """``T_cap`` is the capacity of the input."""
    rows, columns = B * (T_cap + desc.taps - 1), desc.stride * desc.C_out
    row_bytes = 4 * desc.inputs or desc.dtype.itemsize
    depths = (desc.taps * desc.C_in,)
    product = Product(rows, columns, depths, desc.C_in, row_bytes, modest=True)
    return choose_tile(product, desc.dtype, desc.precision, target)


def launch(
    desc: UpsampleDesc,
    config: TileConfig,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ranges: torch.Tensor,
    stream: torch.Tensor | None = None,
    activated: torch.Tensor | None = None,
) -> None:
    """``inputs``: ``desc.inputs`` fp32 tensors, or one in the compute dtype; ``weight`` as packed;
    ``bias: [C_out]`` fp32. The outputs hold at least ``T_cap * stride + extra`` samples."""
    columns = desc.stride * desc.C_out
    expect_buffers(NAME, "inputs", inputs, max(1, desc.inputs), desc.C_in)
    expect_shape(NAME, "weight", weight, (desc.taps, desc.C_in, columns), desc.dtype)
    outputs = [y for y in (stream, activated) if y is not None]
    expect_buffers(NAME, "stream and activated", outputs, desc.stream + desc.activated, desc.C_out)
    B, T_cap, _ = inputs[0].shape
    T_cap_out = outputs[0].shape[1]
    tiles_t = -(-((T_cap_out - 1 + desc.padding) // desc.stride + 1) // config.BT)
    grid = (-(-columns // config.BN) * tiles_t * B,)
    upsample_kernel[grid](
        tuple(inputs),
        weight,
        bias if desc.bias else None,
        stream,
        activated,
        ranges,
        T_cap,
        T_cap_out,
        desc.scale,
        desc.extra,
        desc.extra_out,
        desc.slope_in,
        desc.slope_out,
        B,
        tiles_t,
        INPUTS=desc.inputs,
        C_IN=desc.C_in,
        C_OUT=desc.C_out,
        K=desc.K,
        STRIDE=desc.stride,
        PADDING=desc.padding,
        HAS_BIAS=desc.bias,
        STREAM=desc.stream,
        ACTIVATED=desc.activated,
        PRECISION=desc.precision,
        BT=config.BT,
        BN=config.BN,
        BK=config.BK,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
