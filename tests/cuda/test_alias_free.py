"""The stand-alone anti-aliased snake on emulated devices against float64."""

from __future__ import annotations

import ctypes

import pytest
import torch
from emulation import C_NAMES, kernels, place, pointer, poison, ranges_tensor
from references import alias_free, snake_weights

THREADS = 128
ARCHITECTURES = (75, 80, 86, 89, 90)


class Branch(ctypes.Structure):
    _fields_ = [(n, ctypes.c_void_p) for n in ("x", "y", "alpha", "inv_beta")]


class Params(ctypes.Structure):
    _fields_ = [
        ("branches", Branch * 3),
        ("filters", ctypes.c_void_p),
        ("ranges", ctypes.c_void_p),
        *((n, ctypes.c_int) for n in ("T_cap", "C", "scale", "extra", "tile")),
    ]


def run(arch, xs, weights, filters, ranges, scale, extra, tile, out_dtype, **options):
    """Launches the branches `xs` (each [B, T_cap, C]) and returns their outputs and statistics."""
    B, T_cap, C = xs[0].shape
    ys = [poison(x.shape, out_dtype) for x in xs]
    r = ranges_tensor(ranges)
    params = Params(
        filters=pointer(filters),
        ranges=pointer(r),
        T_cap=T_cap,
        C=C,
        scale=scale,
        extra=extra,
        tile=tile,
    )
    for branch, x, y, (alpha, inv_beta) in zip(params.branches, xs, ys, weights):
        branch.x, branch.y = pointer(x), pointer(y)
        branch.alpha, branch.inv_beta = pointer(alpha), pointer(inv_beta)
    grid = (-(-(-(-T_cap // tile) * C) // THREADS), len(xs), B)
    name = f"alias_free_kernel<{C_NAMES[xs[0].dtype]}, {C_NAMES[out_dtype]}>"
    buffers = [*xs, *ys, *(w for pair in weights for w in pair), filters, r]
    result = kernels("alias_free_launch.cu", arch).launch(
        name, grid, THREADS, params, buffers=buffers, **options
    )
    return ys, result.stats


def check(arch, C, lengths, in_dtype, out_dtype, *, scale=1, extra=0, tile=16, branches=1, seed=0):
    """Ragged rows at different starts in NaN windows; `lengths` are frames."""
    g = torch.Generator().manual_seed(seed)
    filters = snake_weights.filters()
    starts = [b % 3 for b in range(len(lengths))]
    ranges = [(s, s + n) for s, n in zip(starts, lengths)]
    T_cap = max(e for _, e in ranges) * scale + max(extra, 0) + 5
    weights = [snake_weights.random(C, g) for _ in range(branches)]
    rows = [
        [(3 * torch.randn(n * scale + extra, C, generator=g)).to(in_dtype) for n in lengths]
        for _ in range(branches)
    ]
    xs = [place(r, [s * scale for s in starts], T_cap) for r in rows]
    ys, stats = run(arch, xs, weights, filters, ranges, scale, extra, tile, out_dtype, seed=1)
    tolerance = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[out_dtype]
    for y, branch_rows, (alpha, inv_beta) in zip(ys, rows, weights):
        for b, (row, start) in enumerate(zip(branch_rows, starts)):
            if not len(row):
                assert y[b].isnan().all()
                continue
            want = alias_free(row.double(), alpha, inv_beta, filters)
            first = start * scale
            got = y[b, first : first + row.shape[0]].double()
            assert (got - want).abs().max() <= tolerance * want.abs().max()
            assert y[b, :first].isnan().all() and y[b, first + row.shape[0] :].isnan().all()
    return ys, stats


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_real_channels(arch):
    check(arch, 192, [7, 1], torch.float32, torch.float16, scale=16, tile=16, branches=3)


@pytest.mark.parametrize("dtypes", [(0, 0), (0, 1), (0, 2), (1, 1), (2, 2)])
def test_dtypes(dtypes):
    kinds = (torch.float32, torch.float16, torch.bfloat16)
    check(80, 96, [37], kinds[dtypes[0]], kinds[dtypes[1]])


@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 13, 15, 16, 17, 18, 19, 20, 31, 53])
def test_edge_lengths(T):
    check(75, 24, [T, 0, 1, T + 1], torch.float32, torch.float32, tile=16)


def test_extra_and_odd_channels():
    check(80, 35, [9, 4], torch.float32, torch.float32, scale=4, extra=3, tile=8)


def test_bits_do_not_depend_on_tiles():
    outputs = [
        check(80, 40, [61], torch.float32, torch.float32, tile=tile)[0][0]
        for tile in (4, 7, 16, 64)
    ]
    for other in outputs[1:]:
        assert torch.equal(outputs[0].nan_to_num(), other.nan_to_num())


def test_sine_is_accurate_far_from_zero():
    """Arguments of thousands of radians: no worse than twice PyTorch's own fp32 arithmetic."""
    g = torch.Generator().manual_seed(5)
    C, T = 32, 64
    x = 2000 * torch.randn(T, C, generator=g)
    weights = snake_weights.random(C, g)
    filters = snake_weights.filters()
    ys, _ = run(80, [x[None]], [weights], filters, [(0, T)], 1, 0, 16, torch.float32)
    want = alias_free(x.double(), *weights, filters)
    eager = alias_free(x, *weights, filters)
    ours_error = (ys[0][0].double() - want).abs()
    eager_error = (eager.double() - want).abs()
    assert ours_error.max() <= 2 * eager_error.max()
    assert ours_error.square().mean() <= 4 * eager_error.square().mean()


def test_traffic_is_the_minimum():
    C, T = 96, 256
    _, stats = check(80, C, [T], torch.float32, torch.float16, tile=32)
    assert stats["unique_bytes_read"] <= T * C * 4 * 1.02 + 4 * (2 * C + 24 + 2)
    assert stats["unique_bytes_written"] == T * C * 2
    load = stats["global_load"]
    # Broadcast reads (taps, ranges) use 4 bytes of a sector; the signal uses all of every sector.
    assert load["useful_bytes"] >= 0.88 * 32 * load["sectors"]
    assert stats["local_load"]["useful_bytes"] == stats["local_store"]["useful_bytes"] == 0
