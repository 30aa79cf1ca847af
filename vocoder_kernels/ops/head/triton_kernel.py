from __future__ import annotations

import triton
import triton.language as tl

from ..device import leaky, valid_rows


@triton.jit
def condition(
    cond, weight, o,
    C_COND: tl.constexpr, C_OUT: tl.constexpr, PRECISION: tl.constexpr, BN: tl.constexpr,
):  # fmt: skip
    """sum over c of cond[c] weight[c, o] for BN channels o.

    A matrix product whose other rows are zero: c ascending in steps of 16 whatever the tile, which
    a sum over an axis would not keep. With a launch of its own for the condition v2's head takes
    23.6 us and a node more instead of 22.1 (5 s, A100, modelled).
    """
    ROWS: tl.constexpr = 16
    BK: tl.constexpr = 64 if weight.dtype.element_ty.primitive_bitwidth == 16 else 32
    k = tl.arange(0, BK)
    row = tl.arange(0, ROWS)
    acc = tl.zeros((ROWS, BN), tl.float32)
    for c0 in tl.range(0, C_COND, BK, num_stages=4):
        c = c0 + k
        inside = (row == 0)[:, None] & (c < C_COND)[None, :]
        a = tl.load(cond + row[:, None] * 0 + c[None, :], mask=inside, other=0.0)
        inside = (c < C_COND)[:, None] & (o < C_OUT)[None, :]
        w = tl.load(weight + c[:, None] * C_OUT + o[None, :], mask=inside, other=0.0)
        acc = tl.dot(a, w, acc, input_precision=PRECISION)
    return tl.sum(acc, 0)


@triton.jit(do_not_specialize=["T_cap", "scale", "extra", "tiles_t"])
def head_kernel(
    x, weight, bias, cond, cond_weight, cond_bias, source, ranges, out,
    stride_b, stride_c, stride_t, stride_cond, T_cap, scale, extra, slope, tiles_t,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr, DILATION: tl.constexpr,
    HAS_BIAS: tl.constexpr, HAS_COND: tl.constexpr, C_COND: tl.constexpr,
    COND_BIAS: tl.constexpr, PRECISION: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """out[b, t, o] = leaky(bias[o] + cond[r, o]
    + sum over k, c of x[r, c, u + t + k d - halo] w[k, c, o]), where (r, u) = source[b]:
    the caller's row and its time index of buffer sample 0. With C_COND, cond is a condition
    [rows, C_COND] in the compute dtype and its place takes
    cond_bias[o] + sum over c of cond[r, c] cond_weight[c, o], cond_weight: [C_COND, C_OUT].

    x: the caller's [rows, C_IN, T] in any dtype and strides; weight: [K, C_IN, C_OUT]; bias:
    [C_OUT], cond: [rows, C_OUT] fp32; out: [B, T_cap, C_OUT]. Accumulator fp32, (k, c) ascending in
    steps of 16 whatever the tile. Under 2% of a vocoder's FLOPs; bound by latency.
    """
    TILES_N: tl.constexpr = (C_OUT + BN - 1) // BN
    HALO: tl.constexpr = DILATION * (K - 1) // 2
    pid = tl.program_id(0)
    n0 = (pid % TILES_N) * BN
    t0 = (pid // TILES_N) % tiles_t * BT
    b = pid // (TILES_N * tiles_t)

    low, high = valid_rows(ranges, b, scale, extra)
    if (t0 >= high) | (t0 + BT <= low):
        return
    caller_row = tl.load(source + 2 * b).to(tl.int64)
    caller_time = tl.load(source + 2 * b + 1).to(tl.int64)
    x += caller_row * stride_b + (caller_time + t0 - HALO) * stride_t

    t = tl.arange(0, BT)
    o = n0 + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BT, BN), tl.float32)
    if C_COND:
        acc += condition(
            cond + caller_row * stride_cond, cond_weight, o, C_COND, C_OUT, PRECISION, BN
        )[None, :]
        if COND_BIAS:
            acc += tl.load(cond_bias + o, mask=o < C_OUT, other=0.0)[None, :]
    # Tiles of addresses outside the loop, scalars inside.
    CHUNKS: tl.constexpr = (C_IN + BK - 1) // BK
    a_at = t.to(tl.int64)[:, None] * stride_t + k.to(tl.int64)[None, :] * stride_c
    w_at = k[:, None] * C_OUT + o[None, :]
    s = t0 - HALO + t
    for i in range(K * CHUNKS):
        shift = i // CHUNKS * DILATION
        c0 = i % CHUNKS * BK
        rows = (s >= low - shift) & (s < high - shift)
        a_from = x + (shift.to(tl.int64) * stride_t + c0.to(tl.int64) * stride_c)
        a = tl.load(a_from + a_at, mask=rows[:, None] & (c0 + k < C_IN)[None, :], other=0.0)
        inside = (c0 + k < C_IN)[:, None] & (o < C_OUT)[None, :]
        w_from = weight + (i // CHUNKS * C_IN + c0) * C_OUT
        w = tl.load(w_from + w_at, mask=inside, other=0.0)
        acc = tl.dot(a.to(weight.dtype.element_ty), w, acc, input_precision=PRECISION)

    if HAS_BIAS:
        acc += tl.load(bias + o, mask=o < C_OUT, other=0.0)[None, :]
    if HAS_COND and not C_COND:
        acc += tl.load(cond + caller_row * stride_cond + o, mask=o < C_OUT, other=0.0)[None, :]
    valid = (t0 + t >= low) & (t0 + t < high)
    at = (b.to(tl.int64) * T_cap + t0) * C_OUT + t[:, None] * C_OUT + o[None, :]
    y = leaky(acc, slope).to(out.dtype.element_ty)
    tl.store(out + at, y, mask=valid[:, None] & (o < C_OUT)[None, :])
