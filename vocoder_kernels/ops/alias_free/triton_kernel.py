from __future__ import annotations

import triton
import triton.language as tl

from ..device import choose, valid_rows


@triton.jit
def snake(z, alpha, inv_beta):
    """z + sin(alpha z)^2 inv_beta.

    sin^2 has period pi: reduce to [-pi/2, pi/2] in two steps (exact products by FMA), then an odd
    polynomial of degree 9, within 5e-9 of the sine; no library call, hence no local memory.
    """
    y = alpha * z
    n = tl.floor(tl.fma(y, 0.31830987334251404, 0.5))
    r = tl.fma(n, -3.1415927410125732, y)
    r = tl.fma(n, 8.742277657347586e-08, r)
    q = r * r
    p = tl.fma(q, 2.600054585855105e-06, -0.00019806614727713168)
    p = tl.fma(p, q, 0.008333017118275166)
    p = tl.fma(p, q, -0.16666656732559204)
    sine = tl.fma(p * q, r, r)
    return tl.fma(sine * sine, inv_beta, z)


@triton.jit
def sample(xs, row, s, low, high, C: tl.constexpr, c, MEAN: tl.constexpr):
    """Mean of the ``MEAN`` tensors ``xs`` at times ``s``, the edges replicated."""
    inside = tl.minimum(tl.maximum(s, low), high - 1)
    at = inside[:, None] * C + c[None, :]
    x = tl.load(xs[0] + row + at, mask=(c < C)[None, :], other=0.0).to(tl.float32)
    for j in tl.static_range(1, MEAN):
        x += tl.load(xs[j] + row + at, mask=(c < C)[None, :], other=0.0).to(tl.float32)
    if MEAN > 1:
        x = x * (1.0 / MEAN)
    return x


@triton.jit
def pair(
    x0, x1, x2, x3, x4, x5, x6, odd_before, beyond, alpha, inv_beta,
    u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11,
):  # fmt: skip
    """Activated 2x samples 2s and 2s + 1 from x[s - 3 .. s + 3]; beyond the end, the last one."""
    even = x5 * u1
    even = tl.fma(x4, u3, even)
    even = tl.fma(x3, u5, even)
    even = tl.fma(x2, u7, even)
    even = tl.fma(x1, u9, even)
    even = tl.fma(x0, u11, even)
    odd = x6 * u0
    odd = tl.fma(x5, u2, odd)
    odd = tl.fma(x4, u4, odd)
    odd = tl.fma(x3, u6, odd)
    odd = tl.fma(x2, u8, odd)
    odd = tl.fma(x1, u10, odd)
    even = tl.where(beyond, odd_before, snake(even, alpha, inv_beta))
    odd = tl.where(beyond, odd_before, snake(odd, alpha, inv_beta))
    return even, odd


@triton.jit(do_not_specialize=["T_cap", "scale", "extra", "B", "tiles_t"])
def alias_free_kernel(
    inputs, outputs, alphas, inv_betas, filters, ranges, T_cap, scale, extra, B, tiles_t,
    TENSORS: tl.constexpr, MEAN: tl.constexpr, C: tl.constexpr,
    SEGMENTS: tl.constexpr, ROWS: tl.constexpr, UNROLL: tl.constexpr, BC: tl.constexpr,
):  # fmt: skip
    """y[t] = sum over i of down[i] z[clamp(2 t + i - 5)], z = snake(2x upsampling of x), x
    replicated at both ends of the valid samples and z at both of its own: the edges are exact.

    inputs, outputs: TENSORS of [B, T_cap, C], or MEAN inputs whose mean is x and one output;
    alphas, inv_betas: [C] fp32; filters: [24] fp32, the upsampling's gain included. fp32 inside. A
    thread owns a channel and walks ROWS samples with a window of 7 inputs and 12 activated values
    in registers; SEGMENTS such walks per CTA, counted from the first valid sample. 24 FMA and 2
    sines per output, read and written once: bound by instruction issue, near DRAM bandwidth in
    fp16.
    """
    TILES_C: tl.constexpr = (C + BC - 1) // BC
    pid = tl.program_id(0)
    c = (pid % TILES_C) * BC + tl.arange(0, BC)
    tile = (pid // TILES_C) % tiles_t
    b = pid // (TILES_C * tiles_t) % B
    i = pid // (TILES_C * tiles_t * B)
    low, high = valid_rows(ranges, b, scale, extra)
    t0 = low + tile * (SEGMENTS * ROWS)
    if t0 >= high:
        return
    row = (b.to(tl.int64) * T_cap + t0) * C
    if MEAN > 1:
        xs = inputs
    else:
        xs = (choose(inputs, i, TENSORS),)
    y = choose(outputs, i, TENSORS) + row
    alpha = tl.load(choose(alphas, i, TENSORS) + c, mask=c < C, other=0.0)[None, :]
    inv_beta = tl.load(choose(inv_betas, i, TENSORS) + c, mask=c < C, other=0.0)[None, :]
    u0, u1, u2 = tl.load(filters), tl.load(filters + 1), tl.load(filters + 2)
    u3, u4, u5 = tl.load(filters + 3), tl.load(filters + 4), tl.load(filters + 5)
    u6, u7, u8 = tl.load(filters + 6), tl.load(filters + 7), tl.load(filters + 8)
    u9, u10, u11 = tl.load(filters + 9), tl.load(filters + 10), tl.load(filters + 11)
    d0, d1, d2 = tl.load(filters + 12), tl.load(filters + 13), tl.load(filters + 14)
    d3, d4, d5 = tl.load(filters + 15), tl.load(filters + 16), tl.load(filters + 17)
    d6, d7, d8 = tl.load(filters + 18), tl.load(filters + 19), tl.load(filters + 20)
    d9, d10, d11 = tl.load(filters + 21), tl.load(filters + 22), tl.load(filters + 23)

    first, last = low - t0, high - t0
    t = tl.arange(0, SEGMENTS) * ROWS
    x0 = sample(xs, row, t - 6, first, last, C, c, MEAN)
    x1 = sample(xs, row, t - 5, first, last, C, c, MEAN)
    x2 = sample(xs, row, t - 4, first, last, C, c, MEAN)
    x3 = sample(xs, row, t - 3, first, last, C, c, MEAN)
    x4 = sample(xs, row, t - 2, first, last, C, c, MEAN)
    x5 = sample(xs, row, t - 1, first, last, C, c, MEAN)
    # Every carried value needs its own zeros: shared ones are merged and their rotation is lost.
    e1, o1 = tl.zeros((SEGMENTS, BC), tl.float32), tl.zeros((SEGMENTS, BC), tl.float32)
    e2, o2 = tl.zeros((SEGMENTS, BC), tl.float32), tl.zeros((SEGMENTS, BC), tl.float32)
    e3, o3 = tl.zeros((SEGMENTS, BC), tl.float32), tl.zeros((SEGMENTS, BC), tl.float32)
    e4, o4 = tl.zeros((SEGMENTS, BC), tl.float32), tl.zeros((SEGMENTS, BC), tl.float32)
    e5, o5 = tl.zeros((SEGMENTS, BC), tl.float32), tl.zeros((SEGMENTS, BC), tl.float32)
    o0 = tl.zeros((SEGMENTS, BC), tl.float32)
    for step in tl.static_range(6):
        s = t + (step - 3)
        x6 = sample(xs, row, s + 3, first, last, C, c, MEAN)
        o0, e1, o1, e2, o2, e3, o3, e4, o4 = o1, e2, o2, e3, o3, e4, o4, e5, o5
        e5, o5 = pair(
            x0, x1, x2, x3, x4, x5, x6, o4, (s >= last)[:, None], alpha, inv_beta,
            u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11,
        )  # fmt: skip
        x0, x1, x2, x3, x4, x5 = x1, x2, x3, x4, x5, x6
    at_start = (t == first)[:, None]
    o0 = tl.where(at_start, e3, o0)
    e1, o1 = tl.where(at_start, e3, e1), tl.where(at_start, e3, o1)
    e2, o2 = tl.where(at_start, e3, e2), tl.where(at_start, e3, o2)

    for step in range(0, ROWS, UNROLL):
        for u in tl.static_range(UNROLL):
            now = t + (step + u)
            x6 = sample(xs, row, now + 6, first, last, C, c, MEAN)
            e6, o6 = pair(
                x0, x1, x2, x3, x4, x5, x6, o5, (now + 3 >= last)[:, None], alpha, inv_beta,
                u0, u1, u2, u3, u4, u5, u6, u7, u8, u9, u10, u11,
            )  # fmt: skip
            v = o0 * d0
            v = tl.fma(e1, d1, v)
            v = tl.fma(o1, d2, v)
            v = tl.fma(e2, d3, v)
            v = tl.fma(o2, d4, v)
            v = tl.fma(e3, d5, v)
            v = tl.fma(o3, d6, v)
            v = tl.fma(e4, d7, v)
            v = tl.fma(o4, d8, v)
            v = tl.fma(e5, d9, v)
            v = tl.fma(o5, d10, v)
            v = tl.fma(e6, d11, v)
            inside = (now < last)[:, None] & (c < C)[None, :]
            tl.store(y + now[:, None] * C + c[None, :], v.to(y.dtype.element_ty), mask=inside)
            x0, x1, x2, x3, x4, x5 = x1, x2, x3, x4, x5, x6
            o0, e1, o1, e2, o2, e3, o3 = o1, e2, o2, e3, o3, e4, o4
            e4, o4, e5, o5 = e5, o5, e6, o6
