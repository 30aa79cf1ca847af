from __future__ import annotations

from collections.abc import Sequence

import torch

from ..support import Support, Target, compute_support, expect_buffers, expect_shape, slope_support
from ..tile import Product, TileConfig, choose_tile
from .desc import ResidualConvDesc, pack
from .triton_kernel import residual_conv_kernel

__all__ = ["NAME", "can_run", "choose_config", "launch", "pack"]

NAME = "residual_conv"


def can_run(desc: ResidualConvDesc, target: Target) -> Support:
    if not desc.stream and not desc.activated:
        return Support(False, f"{NAME}: writes nothing; ask for stream, activated or both")
    if len(desc.dilation) != desc.branches or not desc.branches:
        return Support(False, f"{NAME}: expected one dilation per kernel size, got {desc}")
    if any(d * (k - 1) % 2 for k, d in zip(desc.K, desc.dilation)):
        return Support(False, f"{NAME}: no symmetric padding keeps the length of {desc}")
    if desc.residual_slope is not None and desc.residual_slope <= 0.0:
        return Support(False, f"{NAME}: no undoing a LeakyReLU of slope {desc.residual_slope}")
    slopes = slope_support(NAME, desc.slope) and slope_support(NAME, desc.residual_slope or 1.0)
    return slopes and compute_support(target, desc.dtype)


def choose_config(desc: ResidualConvDesc, B: int, T_cap: int, target: Target) -> TileConfig:
    depths = tuple(sorted((k * desc.C_in for k in desc.K), reverse=True))
    if desc.mean:
        depths = (sum(depths),)
    itemsize = desc.dtype.itemsize
    product = Product(B * T_cap, desc.C_out, depths, desc.C_in, itemsize, modest=desc.mean)
    return choose_tile(product, desc.dtype, desc.precision, target)


def launch(
    desc: ResidualConvDesc,
    config: TileConfig,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    residuals: Sequence[torch.Tensor] | None,
    ranges: torch.Tensor,
    streams: Sequence[torch.Tensor] | None = None,
    activated: Sequence[torch.Tensor] | None = None,
) -> None:
    """One tensor per branch in every sequence, in those of the outputs one for the mean; the same
    tensor may serve several branches as input or residual. ``weight`` as packed, ``bias: [branches,
    C_out]`` fp32."""
    n = desc.branches
    outputs = (streams if desc.stream else ()) or (), (activated if desc.activated else ()) or ()
    expect_buffers(NAME, "inputs", inputs, n, desc.C_in)
    expect_shape(NAME, "weight", weight, (sum(desc.K), desc.C_in, desc.C_out), desc.dtype)
    for argument, used, tensors, count in (
        ("residuals", desc.residual, residuals or (), n),
        ("streams", desc.stream, outputs[0], desc.outputs),
        ("activated", desc.activated, outputs[1], desc.outputs),
    ):
        if used:
            expect_buffers(NAME, argument, tensors, count, desc.C_out)
    B, T_cap, _ = inputs[0].shape
    tiles_t = -(-T_cap // config.BT)
    grid = (-(-desc.C_out // config.BN) * tiles_t * B * desc.outputs,)
    unused = (None,) * n
    residual_conv_kernel[grid](
        tuple(inputs),
        weight,
        bias if desc.bias else None,
        tuple(residuals) if desc.residual and residuals else unused,
        tuple(outputs[0]) or unused,
        tuple(outputs[1]) or unused,
        ranges,
        desc.K,
        desc.dilation,
        T_cap,
        desc.scale,
        desc.extra,
        desc.slope,
        1.0 / (desc.residual_slope or 1.0),
        B,
        tiles_t,
        BRANCHES=n,
        C_IN=desc.C_in,
        C_OUT=desc.C_out,
        MEAN=desc.mean,
        HAS_BIAS=desc.bias,
        RESIDUAL=desc.residual,
        STREAM=desc.stream,
        ACTIVATED=desc.activated,
        UNDO=desc.residual_slope is not None,
        PRECISION=desc.precision,
        BT=config.BT,
        BN=config.BN,
        BK=config.BK,
        num_warps=config.num_warps,
        num_stages=config.num_stages,
        enable_fp_fusion=True,
    )
