from __future__ import annotations

import triton
import triton.language as tl

from ..device import choose, leaky, valid_rows


@triton.jit
def halves(x, BT: tl.constexpr, BN: tl.constexpr):
    """Left and right half of the columns."""
    return tl.split(tl.permute(tl.reshape(x, (BT, 2, BN // 2)), (0, 2, 1)))


@triton.jit
def locate(tap, taps, dilations, BRANCHES: tl.constexpr):
    """Branch and shift of a tap among those of all branches."""
    branch = tap * 0
    begin = tap * 0
    for j in tl.static_range(BRANCHES - 1):
        end = begin + taps[j]
        beyond = (branch == j) & (tap >= end)
        branch = tl.where(beyond, j + 1, branch)
        begin = tl.where(beyond, end, begin)
    dilation = choose(dilations, branch, BRANCHES)
    halo = dilation * (choose(taps, branch, BRANCHES) - 1) // 2
    return branch, dilation * (tap - begin) - halo


@triton.jit
def finish(
    acc, t, n0, n, valid, bias, residuals, at_tile, stream, activated, slope, undo,
    C_OUT: tl.constexpr, BN: tl.constexpr, ADDENDS: tl.constexpr, HAS_BIAS: tl.constexpr,
    RESIDUAL: tl.constexpr, STREAM: tl.constexpr, ACTIVATED: tl.constexpr, UNDO: tl.constexpr,
):  # fmt: skip
    """Adds ADDENDS biases and residuals to sums of BN channels from n on, takes the mean and writes
    the outputs. The pointers are to the tile's first sample and channel."""
    o = n + tl.arange(0, BN)
    inside = valid[:, None] & (n0 + o < C_OUT)[None, :]
    at = t[:, None] * C_OUT + o[None, :]
    if HAS_BIAS:
        for j in tl.static_range(ADDENDS):
            acc += tl.load(bias + j * C_OUT + o, mask=n0 + o < C_OUT, other=0.0)[None, :]
    if RESIDUAL:
        for j in tl.static_range(ADDENDS):
            x = tl.load(residuals[j] + at_tile + at, mask=inside, other=0.0).to(tl.float32)
            if UNDO:
                x = tl.minimum(x, x * undo)
            acc += x
    if ADDENDS > 1:
        acc *= 1.0 / ADDENDS
    if STREAM:
        tl.store(stream + at, acc, mask=inside)
    if ACTIVATED:
        y = leaky(acc, slope).to(activated.dtype.element_ty)
        tl.store(activated + at, y, mask=inside)


@triton.jit
def add_flattened(
    acc, x, w, s, t, o, low, high, K, dilation,
    C_IN: tl.constexpr, C_OUT: tl.constexpr, PRECISION: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """Adds one branch's convolution, taps and channels being one axis."""
    k = tl.arange(0, BK)
    for k0 in range(0, K * C_IN, BK):
        kc = k0 + k
        shift = kc // C_IN * dilation
        rows = (s[:, None] + shift[None, :] >= low) & (s[:, None] + shift[None, :] < high)
        at = (t[:, None] + shift[None, :]) * C_IN + (kc % C_IN)[None, :]
        a = tl.load(x + at, mask=rows & (kc < K * C_IN)[None, :], other=0.0)
        at = kc[:, None] * C_OUT + o[None, :]
        inside = (kc < K * C_IN)[:, None] & (o < C_OUT)[None, :]
        v = tl.load(w + at, mask=inside, other=0.0)
        acc = tl.dot(a, v, acc, input_precision=PRECISION)
    return acc


@triton.jit(do_not_specialize=["taps", "dilations", "T_cap", "scale", "extra", "B", "tiles_t"])
def residual_conv_kernel(
    inputs, weight, bias, residuals, streams, activated, ranges, taps, dilations,
    T_cap, scale, extra, slope, undo, B, tiles_t,
    BRANCHES: tl.constexpr, C_IN: tl.constexpr, C_OUT: tl.constexpr, MEAN: tl.constexpr,
    HAS_BIAS: tl.constexpr, RESIDUAL: tl.constexpr, STREAM: tl.constexpr,
    ACTIVATED: tl.constexpr, UNDO: tl.constexpr, PRECISION: tl.constexpr,
    BT: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """y_j[t, o] = bias_j[o] + sum over k, c of x_j[t + k * dilation_j - halo_j, c] w_j[k, c, o]
    (+ residual_j[t, o]) for BRANCHES branches j; with MEAN one output, their mean.

    inputs: x_j [B, T_cap, C_IN] compute dtype; weight: [sum of K_j, C_IN, C_OUT] compute dtype;
    bias: [BRANCHES, C_OUT] fp32; residuals: [B, T_cap, C_OUT] fp32, or with UNDO min(r, undo * r)
    of r in the compute dtype; streams: [B, T_cap, C_OUT] fp32; activated: the same in the compute
    dtype, leaky(y). Accumulator fp32, (branch,) tap, channel ascending in steps of 16 whatever the
    tile. Grid: branch, row, tile in time, tile in channels, the last fastest: neighbours share x.
    Channels that BK does not divide are flattened with the taps, so narrow ones waste no products.
    FLOPs 2 T K C_IN C_OUT, bytes about T (C_IN + C_OUT) per column tile from L2: bound by the
    matrix units when wide, by latency on short windows.
    """
    TILES_N: tl.constexpr = (C_OUT + BN - 1) // BN
    CHUNKS: tl.constexpr = C_IN // BK
    ADDENDS: tl.constexpr = BRANCHES if MEAN else 1
    pid = tl.program_id(0)
    n0 = (pid % TILES_N) * BN
    t0 = (pid // TILES_N) % tiles_t * BT
    b = pid // (TILES_N * tiles_t) % B
    branch = pid // (TILES_N * tiles_t * B)

    low, high = valid_rows(ranges, b, scale, extra)
    if (t0 >= high) | (t0 + BT <= low):
        return
    K = choose(taps, branch, BRANCHES)
    dilation = choose(dilations, branch, BRANCHES)
    first_tap = 0
    all_taps = taps[BRANCHES - 1]
    for j in tl.static_range(BRANCHES - 1):
        first_tap += tl.where(branch > j, taps[j], 0)
        all_taps += taps[j]
    halo = dilation * (K - 1) // 2

    row = b.to(tl.int64) * T_cap + t0
    x = choose(inputs, branch, BRANCHES) + (row - halo) * C_IN
    w = weight + tl.cast(first_tap, tl.int64) * (C_IN * C_OUT)
    t = tl.arange(0, BT)
    o = n0 + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BT, BN), tl.float32)
    if C_IN % BK == 0:
        # Tiles of addresses outside the loop, scalars inside.
        a_at = t[:, None] * C_IN + k[None, :]
        w_at = k[:, None] * C_OUT + o[None, :]
        for i in range((all_taps if MEAN else K) * CHUNKS):
            tap = i // CHUNKS
            if MEAN:
                owner, shift = locate(tap, taps, dilations, BRANCHES)
                a_from = choose(inputs, owner, BRANCHES) + (row + shift) * C_IN
            else:
                shift = tap * dilation - halo
                a_from = x + tap * dilation * C_IN
            rows = (t0 + t >= low - shift) & (t0 + t < high - shift)
            w_from = w + i * (BK * C_OUT)
            a = tl.load(a_from + i % CHUNKS * BK + a_at, mask=rows[:, None], other=0.0)
            if C_OUT % BN == 0:
                v = tl.load(w_from + w_at)
            else:
                v = tl.load(w_from + w_at, mask=o[None, :] < C_OUT, other=0.0)
            acc = tl.dot(a, v, acc, input_precision=PRECISION)
    elif MEAN:
        for j in tl.static_range(BRANCHES):
            reach = dilations[j] * (taps[j] - 1) // 2
            acc = add_flattened(
                acc, inputs[j] + (row - reach) * C_IN, w, t0 - reach + t, t, o,
                low, high, taps[j], dilations[j], C_IN, C_OUT, PRECISION, BK,
            )  # fmt: skip
            w += tl.cast(taps[j], tl.int64) * (C_IN * C_OUT)
    else:
        acc = add_flattened(
            acc, x, w, t0 - halo + t, t, o,
            low, high, K, dilation, C_IN, C_OUT, PRECISION, BK,
        )  # fmt: skip

    valid = (t0 + t >= low) & (t0 + t < high)
    at = row * C_OUT + n0
    # Pointers that are not used stand for those that are not there.
    p = bias + (branch * C_OUT + n0) if HAS_BIAS else weight
    r = residuals
    if RESIDUAL and not MEAN:
        r = (choose(residuals, branch, BRANCHES),)
    OUTPUTS: tl.constexpr = 1 if MEAN else BRANCHES
    y = choose(streams, branch, OUTPUTS) + at if STREAM else weight
    z = choose(activated, branch, OUTPUTS) + at if ACTIVATED else weight
    if RESIDUAL and BT * BN >= 128 * 64:
        # A quarter of the residual at a time: all of it beside the sums does not fit registers.
        Q: tl.constexpr = BN // 4
        left, right = halves(acc, BT, BN)
        first, second = halves(left, BT, 2 * Q)
        third, fourth = halves(right, BT, 2 * Q)
        finish(first, t, n0, 0, valid, p, r, at, y, z, slope, undo, C_OUT, Q, ADDENDS,
               HAS_BIAS, RESIDUAL, STREAM, ACTIVATED, UNDO)  # fmt: skip
        finish(second, t, n0, Q, valid, p, r, at, y, z, slope, undo, C_OUT, Q, ADDENDS,
               HAS_BIAS, RESIDUAL, STREAM, ACTIVATED, UNDO)  # fmt: skip
        finish(third, t, n0, 2 * Q, valid, p, r, at, y, z, slope, undo, C_OUT, Q, ADDENDS,
               HAS_BIAS, RESIDUAL, STREAM, ACTIVATED, UNDO)  # fmt: skip
        finish(fourth, t, n0, 3 * Q, valid, p, r, at, y, z, slope, undo, C_OUT, Q, ADDENDS,
               HAS_BIAS, RESIDUAL, STREAM, ACTIVATED, UNDO)  # fmt: skip
    else:
        finish(acc, t, n0, 0, valid, p, r, at, y, z, slope, undo, C_OUT, BN, ADDENDS,
               HAS_BIAS, RESIDUAL, STREAM, ACTIVATED, UNDO)  # fmt: skip
