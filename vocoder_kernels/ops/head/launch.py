from __future__ import annotations

from dataclasses import replace

import torch

from ..support import Support, Target, compute_support, expect_buffers, expect_shape, slope_support
from ..tile import Product, TileConfig, choose_tile
from .desc import HeadDesc, pack, pack_condition
from .triton_kernel import head_kernel

__all__ = ["NAME", "can_run", "choose_config", "launch", "pack", "pack_condition"]

NAME = "head"


def can_run(desc: HeadDesc, target: Target) -> Support:
    if desc.dilation * (desc.K - 1) % 2:
        return Support(False, f"{NAME}: no symmetric padding keeps the length of {desc}")
    if desc.C_cond and target.backend == "cuda" and target.arch < 80:
        # Scalar products of the condition spill beside those of the input.
        return Support(False, f"{NAME}: multiplying the condition needs an Ampere GPU or later")
    return slope_support(NAME, desc.slope) and compute_support(target, desc.dtype)


def choose_config(desc: HeadDesc, B: int, T_cap: int, target: Target) -> TileConfig:
    """The caller's layout rules out asynchronous copies: long steps, since each waits for its loads
    (100 channels, A100: 6.7 us against 16.1 with steps of 32)."""
    depths = (desc.K * desc.C_in,)
    product = Product(B * T_cap, desc.C_out, depths, desc.C_in, desc.dtype.itemsize)
    tile = choose_tile(product, desc.dtype, desc.precision, target)
    if desc.dtype == torch.float32 or target.backend == "hip" or target.arch < 80:
        return tile
    BK = 128 if 64 < desc.C_in <= 128 else 64
    return replace(tile, BT=min(tile.BT, 64), BN=min(tile.BN, 64), BK=BK, num_stages=2)


def launch(
    desc: HeadDesc,
    config: TileConfig,
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
    """``x``: the caller's ``[rows, C_in, T]``, any floating dtype and strides; ``weight`` as
    packed; ``bias: [C_out]`` and ``cond: [rows, C_out]`` (rows of any stride, 0 too) fp32;
    ``source: int32 [B, 2]``: the caller's row and its time index of buffer sample 0, which may lie
    outside the caller's tensor as long as the valid samples do not; ``out: [B, T_cap, C_out]``.
    With ``desc.C_cond``: ``cond: [rows, ..., C_cond]`` in the compute dtype, ``cond_weight:
    [C_cond, C_out]`` too, ``cond_bias: [C_out]`` fp32 or None."""
    expect_buffers(NAME, "out", [out], 1, desc.C_out)
    expect_shape(NAME, "weight", weight, (desc.K, desc.C_in, desc.C_out), desc.dtype)
    B, T_cap, _ = out.shape
    expect_shape(NAME, "source", source, (B, 2), torch.int32)
    if x.dim() != 3 or x.shape[1] != desc.C_in:
        raise ValueError(f"{NAME}: x: expected [rows, {desc.C_in}, T], got {list(x.shape)}")
    if desc.C_cond:
        if cond is None or cond_weight is None or cond.shape[-1] != desc.C_cond:
            raise ValueError(f"{NAME}: expected cond [rows, {desc.C_cond}] and cond_weight")
        expect_shape(NAME, "cond_weight", cond_weight, (desc.C_cond, desc.C_out), desc.dtype)
    tiles_t = -(-T_cap // config.BT)
    head_kernel[(-(-desc.C_out // config.BN) * tiles_t * B,)](
        x,
        weight,
        bias if desc.bias else None,
        cond if desc.cond else None,
        cond_weight if desc.C_cond else None,
        cond_bias if desc.C_cond else None,
        source,
        ranges,
        out,
        x.stride(0),
        x.stride(1),
        x.stride(2),
        cond.stride(0) if desc.cond and cond is not None else 0,
        T_cap,
        desc.scale,
        desc.extra,
        desc.slope,
        tiles_t,
        C_IN=desc.C_in,
        C_OUT=desc.C_out,
        K=desc.K,
        DILATION=desc.dilation,
        HAS_BIAS=desc.bias,
        HAS_COND=desc.cond,
        C_COND=desc.C_cond,
        COND_BIAS=bool(desc.C_cond) and cond_bias is not None,
        PRECISION=desc.precision,
        BT=config.BT,
        BN=config.BN,
        BK=config.BK,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
