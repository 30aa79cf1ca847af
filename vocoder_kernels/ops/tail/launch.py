from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..support import Support, Target, expect_buffers, expect_shape, slope_support
from ..tile import next_power_of_2
from .desc import TailDesc, pack
from .triton_kernel import tail_kernel

__all__ = ["NAME", "TailConfig", "can_run", "choose_config", "launch", "pack"]

NAME = "tail"


@dataclass(frozen=True)
class TailConfig:
    """``BT`` samples per CTA. It may change the order of summation over channels, so
    `choose_config` gives one value per description."""

    BT: int
    num_warps: int = 4


def can_run(desc: TailDesc, target: Target) -> Support:
    if desc.end not in ("tanh", "clamp"):
        return Support(False, f"{NAME}: end: expected tanh or clamp, got {desc.end!r}")
    if desc.K % 2 == 0:
        return Support(False, f"{NAME}: no symmetric padding keeps the length of {desc}")
    if desc.snake:
        return Support(False, f"{NAME}: the Triton kernel has no snake; run alias_free before it")
    return slope_support(NAME, desc.slope)


def choose_config(desc: TailDesc, B: int, T_cap: int, target: Target) -> TailConfig:
    """About 8 products per thread and tap (with 16 all registers are used); independent of B and
    T_cap on purpose."""
    return TailConfig(max(16, min(256, 1024 // next_power_of_2(desc.C_in))))


def launch(
    desc: TailDesc,
    config: TailConfig,
    inputs: Sequence[torch.Tensor],
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    ranges: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """``weight`` as packed, ``bias: [1]`` fp32; ``out: [B, >= T_cap]`` in any floating dtype,
    samples dense, rows of any stride."""
    expect_buffers(NAME, "inputs", inputs, desc.inputs, desc.C_in)
    expect_shape(NAME, "weight", weight, (desc.K, desc.C_in), torch.float32)
    B, T_cap, _ = inputs[0].shape
    if out.dim() != 2 or out.shape[0] != B or out.shape[1] < T_cap or out.stride(1) != 1:
        raise ValueError(
            f"{NAME}: out: expected [{B}, at least {T_cap}] with dense samples, "
            f"got {list(out.shape)} with strides {list(out.stride())}"
        )
    tiles_t = -(-T_cap // config.BT)
    tail_kernel[(tiles_t * B,)](
        tuple(inputs),
        weight,
        bias if desc.bias else None,
        ranges,
        out,
        T_cap,
        desc.scale,
        desc.extra,
        desc.slope,
        out.stride(0),
        tiles_t,
        INPUTS=desc.inputs,
        C_IN=desc.C_in,
        K=desc.K,
        HAS_BIAS=desc.bias,
        TANH=desc.end == "tanh",
        BT=config.BT,
        BC=next_power_of_2(desc.C_in),
        num_warps=config.num_warps,
        enable_fp_fusion=True,
    )
