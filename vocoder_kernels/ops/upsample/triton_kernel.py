from __future__ import annotations

import triton
import triton.language as tl

from ..device import leaky, valid_rows


@triton.jit(do_not_specialize=["T_cap", "T_cap_out", "scale", "extra", "extra_out", "B", "tiles_t"])
def upsample_kernel(
    inputs, weight, bias, stream, activated, ranges,
    T_cap, T_cap_out, scale, extra, extra_out, slope_in, slope_out, B, tiles_t,
    INPUTS: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, K: tl.constexpr,
    STRIDE: tl.constexpr, PADDING: tl.constexpr, HAS_BIAS: tl.constexpr, STREAM: tl.constexpr,
    ACTIVATED: tl.constexpr, PRECISION: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """y[m * STRIDE + p - PADDING, o] = bias[o] + sum over j, c of x[m - j, c] w[j, c, p, o].

    Tap j of phase p is tap p + j * STRIDE of the transposed convolution: a matrix product with
    rows m, columns (p, o), depth (j, c) and no multiplications by the zeros between samples. A row
    of it is STRIDE samples of the output, contiguous in memory, moved by PADDING.
    inputs: INPUTS fp32 [B, T_cap, C_IN], averaged and activated on load, or one activated tensor in
    the compute dtype (INPUTS 0); weight: [taps, C_IN, STRIDE * C_OUT]; bias: [C_OUT] fp32;
    stream: [B, T_cap_out, C_OUT] fp32; activated: the same in the compute dtype, leaky(y).
    Accumulator fp32, (j, c) ascending in steps of 16 whatever the tile. A column tile whose phases
    have no last tap skips it. FLOPs 2 T_in K C_IN C_OUT; bound by the matrix units when wide, by
    writing the output when narrow.
    """
    N: tl.constexpr = STRIDE * C_OUT
    TILES_N: tl.constexpr = (N + BN - 1) // BN
    pid = tl.program_id(0)
    n0 = (pid % TILES_N) * BN
    m0 = (pid // TILES_N) % tiles_t * BT
    b = pid // (TILES_N * tiles_t)

    low, high = valid_rows(ranges, b, scale, extra)
    low_out, high_out = valid_rows(ranges, b, scale * STRIDE, extra_out)
    first = m0 * STRIDE - PADDING
    if (first >= high_out) | (first + BT * STRIDE <= low_out):
        return
    taps = tl.maximum(K - n0 // C_OUT + STRIDE - 1, 0) // STRIDE

    m = tl.arange(0, BT)
    n = n0 + tl.arange(0, BN)
    k = tl.arange(0, BK)
    row = (b.to(tl.int64) * T_cap + m0) * C_IN
    acc = tl.zeros((BT, BN), tl.float32)
    if C_IN % BK == 0:
        # Tiles of addresses outside the loop, scalars inside.
        a_at = m[:, None] * C_IN + k[None, :]
        w_at = k[:, None] * N + n[None, :]
        for i in range(taps * (C_IN // BK)):
            j = i // (C_IN // BK)
            rows = ((m0 + m >= low + j) & (m0 + m < high + j))[:, None]
            a_from = row - j * C_IN + i % (C_IN // BK) * BK
            a = tl.load(inputs[0] + a_from + a_at, mask=rows, other=0.0)
            if INPUTS > 0:
                for q in tl.static_range(1, INPUTS):
                    a += tl.load(inputs[q] + a_from + a_at, mask=rows, other=0.0)
                a = leaky(a * (1.0 / INPUTS), slope_in).to(weight.dtype.element_ty)
            w_from = weight + i * (BK * N)
            if N % BN == 0:
                w = tl.load(w_from + w_at)
            else:
                w = tl.load(w_from + w_at, mask=(n < N)[None, :], other=0.0)
            acc = tl.dot(a, w, acc, input_precision=PRECISION)
    else:
        for k0 in range(0, taps * C_IN, BK):
            j = (k0 + k) // C_IN
            s = m0 + m[:, None] - j[None, :]
            inside = (s >= low) & (s < high) & (k0 + k < taps * C_IN)[None, :]
            at = (m[:, None] - j[None, :]) * C_IN + ((k0 + k) % C_IN)[None, :]
            a = tl.load(inputs[0] + row + at, mask=inside, other=0.0)
            if INPUTS > 0:
                for q in tl.static_range(1, INPUTS):
                    a += tl.load(inputs[q] + row + at, mask=inside, other=0.0)
                a = leaky(a * (1.0 / INPUTS), slope_in).to(weight.dtype.element_ty)
            kn = (k0 + k < taps * C_IN)[:, None] & (n < N)[None, :]
            w = tl.load(weight + (k0 + k)[:, None] * N + n[None, :], mask=kn, other=0.0)
            acc = tl.dot(a, w, acc, input_precision=PRECISION)

    if HAS_BIAS:
        acc += tl.load(bias + n % C_OUT, mask=n < N, other=0.0)[None, :]
    tile = first.to(tl.int64) * C_OUT
    begin = tl.minimum(tl.maximum(low_out.to(tl.int64) * C_OUT - tile, 0), BT * N).to(tl.int32)
    end = tl.minimum(tl.maximum(high_out.to(tl.int64) * C_OUT - tile, 0), BT * N).to(tl.int32)
    at = m[:, None] * N + n[None, :]
    inside = (at >= begin) & (at < end) & (n < N)[None, :]
    tile += b.to(tl.int64) * T_cap_out * C_OUT
    if STREAM:
        tl.store(stream + tile + at, acc, mask=inside)
    if ACTIVATED:
        y = leaky(acc, slope_out).to(activated.dtype.element_ty)
        tl.store(activated + tile + at, y, mask=inside)
