from __future__ import annotations

import triton
import triton.language as tl

from ..device import leaky, valid_rows


@triton.jit
def tanh(x):
    """From exp(-2 |x|), a polynomial near zero where that cancels: relative error below 4e-7."""
    a = tl.abs(x)
    e = tl.exp(-2.0 * a)
    large = (1.0 - e) / (1.0 + e)
    q = x * x
    p = tl.fma(q, 0.021869488536155203, -0.05396825396825397)
    p = tl.fma(p, q, 0.13333333333333333)
    p = tl.fma(p, q, -0.3333333333333333)
    small = tl.fma(p * q, x, x)
    return tl.where(a < 0.25, small, tl.where(x < 0, -large, large))


@triton.jit(do_not_specialize=["T_cap", "scale", "extra", "tiles_t"])
def tail_kernel(
    inputs, weight, bias, ranges, out, T_cap, scale, extra, slope, stride_out, tiles_t,
    INPUTS: tl.constexpr, C_IN: tl.constexpr, K: tl.constexpr, HAS_BIAS: tl.constexpr,
    TANH: tl.constexpr, BT: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """out[b, t] = end(bias + sum over k, c of leaky(mean over i of x_i[t + k - halo, c]) w[k, c]).

    inputs: INPUTS of [B, T_cap, C_IN] fp32 or compute dtype; weight: [K, C_IN] fp32; bias: [1];
    out: [B, >= T_cap] caller's dtype. fp32 throughout, taps summed per channel, then channels: an
    order that depends on C_IN alone. Every input row is read K times, from L1 after the first:
    bound by issue and DRAM.
    """
    HALO: tl.constexpr = (K - 1) // 2
    pid = tl.program_id(0)
    t0 = pid % tiles_t * BT
    b = pid // tiles_t
    low, high = valid_rows(ranges, b, scale, extra)
    if (t0 >= high) | (t0 + BT <= low):
        return
    t = tl.arange(0, BT)
    c = tl.arange(0, BC)
    row = (b.to(tl.int64) * T_cap + t0) * C_IN
    acc = tl.zeros((BT, BC), tl.float32)
    for k in tl.static_range(K):
        s = t + (k - HALO)
        inside = ((t0 + s >= low) & (t0 + s < high))[:, None] & (c < C_IN)[None, :]
        at = s[:, None] * C_IN + c[None, :]
        x = tl.load(inputs[0] + row + at, mask=inside, other=0.0).to(tl.float32)
        for i in tl.static_range(1, INPUTS):
            x += tl.load(inputs[i] + row + at, mask=inside, other=0.0).to(tl.float32)
        if INPUTS > 1:
            x = x * (1.0 / INPUTS)
        w = tl.load(weight + k * C_IN + c, mask=c < C_IN, other=0.0)
        acc = tl.fma(leaky(x, slope), tl.broadcast_to(w[None, :], (BT, BC)), acc)
    y = tl.sum(acc, axis=1)
    if HAS_BIAS:
        y += tl.load(bias)
    y = tanh(y) if TANH else tl.minimum(tl.maximum(y, -1.0), 1.0)
    valid = (t0 + t >= low) & (t0 + t < high)
    tl.store(out + b.to(tl.int64) * stride_out + t0 + t, y.to(out.dtype.element_ty), mask=valid)
