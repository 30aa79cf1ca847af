"""First convolution on the CUDA core's tensor-core kernel."""

from __future__ import annotations

import torch

from ..cuda_conv import STRIDED, ConvTile, choose_conv_tile, pack_fragments, packed_size, tiles_for
from ..cuda_core import DTYPE_CODES, address, core, place_of, tensor_core_support
from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from .desc import HeadDesc

NAME = "head"


def pack(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``[C_out, C_in, K]`` to the kernel's order, flat."""
    return pack_fragments(weight.permute(2, 1, 0), dtype)


def can_run(desc: HeadDesc, target: Target) -> Support:
    if desc.dilation * (desc.K - 1) % 2:
        return Support(False, f"{NAME}: no symmetric padding keeps the length of {desc}")
    if desc.C_out % 4:
        return Support(False, f"{NAME}: the CUDA C++ kernel takes C_out in fours, got {desc.C_out}")
    if desc.C_cond:
        return Support(
            False, f"{NAME}: the CUDA C++ kernel adds a condition, it does not multiply one"
        )
    support = slope_support(NAME, desc.slope) and tensor_core_support(target, desc.dtype)
    if support and not tiles_for(STRIDED, 2 * desc.halo):
        return Support(False, f"{NAME}: a reach of {2 * desc.halo} samples exceeds shared memory")
    return support


def choose_config(desc: HeadDesc, B: int, T_cap: int, target: Target) -> ConvTile:
    return choose_conv_tile(STRIDED, 2 * desc.halo, B * T_cap, desc.C_out, target)


def launch(
    desc: HeadDesc,
    config: ConvTile,
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    cond: torch.Tensor | None,
    source: torch.Tensor,
    ranges: torch.Tensor,
    out: torch.Tensor,
    cond_weight: torch.Tensor | None = None,
    cond_bias: torch.Tensor | None = None,
) -> None:
    """``x``: the caller's ``[rows, C_in, T]`` in float32, float16 or bfloat16 and any strides;
    ``weight`` as packed here; ``bias: [C_out]`` and ``cond: [rows, C_out]`` (rows of any stride, 0
    too) fp32; ``source: int32 [B, 2]``: the caller's row and its time index of buffer sample 0,
    which may lie outside the caller's tensor as long as the valid samples do not;
    ``out: [B, T_cap, C_out]``. A condition's weights are for others: none is multiplied here."""
    expect_buffers(NAME, "out", [out], 1, desc.C_out)
    expect_shape(NAME, "weight", weight, (packed_size(desc.K, desc.C_in, desc.C_out),), desc.dtype)
    B, T_cap, _ = out.shape
    expect_shape(NAME, "source", source, (B, 2), torch.int32)
    if x.dim() != 3 or x.shape[1] != desc.C_in or x.dtype not in DTYPE_CODES:
        raise ValueError(
            f"{NAME}: x: expected [rows, {desc.C_in}, T] in float32, float16 or bfloat16, "
            f"got {x.dtype} {list(x.shape)}"
        )
    if desc.cond and (cond is None or cond.stride(-1) != 1 or cond.dtype != torch.float32):
        raise ValueError(f"{NAME}: cond: expected float32 [rows, {desc.C_out}] with dense rows")
    core().head(
        x=address(x),
        x_dtype=DTYPE_CODES[x.dtype],
        stride_b=x.stride(0),
        stride_c=x.stride(1),
        stride_t=x.stride(2),
        source=address(source),
        weight=address(weight),
        bias=address(bias) if desc.bias else 0,
        cond=address(cond) if desc.cond else 0,
        cond_stride=cond.stride(0) if desc.cond and cond is not None else 0,
        ranges=address(ranges),
        out=address(out),
        B=B,
        T_cap=T_cap,
        C_in=desc.C_in,
        C_out=desc.C_out,
        K=desc.K,
        dilation=desc.dilation,
        scale=desc.scale,
        extra=desc.extra,
        slope=desc.slope,
        dtype=DTYPE_CODES[desc.dtype],
        tile=config.index,
        **place_of(ranges),
    )
