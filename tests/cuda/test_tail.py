"""The tail on emulated devices against float64."""

from __future__ import annotations

import ctypes

import pytest
import torch
import torch.nn.functional as F
from emulation import (
    C_NAMES,
    DTYPE_CODES,
    kernels,
    place,
    pointer,
    poison,
    ranges_tensor,
)
from references import alias_free, snake_weights

ARCHITECTURES = (75, 80, 86, 89, 90)
ENDS = {"none": 0, "tanh": 1, "clamp": 2}
SLOPE = 0.01


class Params(ctypes.Structure):
    _fields_ = [
        ("x", ctypes.c_void_p * 3),
        *((n, ctypes.c_void_p) for n in ("weight", "bias", "alpha", "inv_beta", "filters")),
        ("out", ctypes.c_void_p),
        ("ranges", ctypes.c_void_p),
        ("out_stride", ctypes.c_int64),
        *((n, ctypes.c_int) for n in ("branches", "T_cap", "C", "K", "scale", "extra")),
        ("slope", ctypes.c_float),
        *((n, ctypes.c_int) for n in ("out_dtype", "end", "pitch", "segment")),
    ]


def pitch_of(C: int) -> int:
    quads = -(-C // 4)
    return 4 * (quads if quads % 2 else quads + 1)


def reference(rows, weight, bias, act, snake, filters, end):
    """rows: [T, C] of each branch in float64 -> [T]."""
    h = sum(rows) / len(rows)
    if act == "leaky_relu":
        h = F.leaky_relu(h, SLOPE)
    elif act == "snake":
        h = alias_free(h, *snake, filters)
    w = weight.double()
    y = F.conv1d(h.t()[None], w, None if bias is None else bias.double(), padding=w.shape[2] // 2)
    y = y.flatten()
    return {"none": y, "tanh": torch.tanh(y), "clamp": y.clamp(-1, 1)}[end]


def check(
    arch,
    C,
    lengths,
    *,
    K=7,
    act="leaky_relu",
    end="tanh",
    bias=True,
    branches=3,
    threads=256,
    segment=26,
    in_dtype=torch.float32,
    out_dtype=torch.float32,
    scale=1,
    extra=0,
    seed=0,
):
    g = torch.Generator().manual_seed(seed)
    starts = [b % 3 for b in range(len(lengths))]
    ranges = [(s, s + n) for s, n in zip(starts, lengths)]
    T_cap = max(e for _, e in ranges) * scale + max(extra, 0) + 5
    rows = [
        [torch.randn(n * scale + extra, C, generator=g).to(in_dtype) for n in lengths]
        for _ in range(branches)
    ]
    xs = [place(r, [s * scale for s in starts], T_cap) for r in rows]
    weight = 0.1 * torch.randn(1, C, K, generator=g)
    bias = torch.randn(1, generator=g) * 0.1 if bias else None
    snake, filters = snake_weights.random(C, g), snake_weights.filters()
    pitch = pitch_of(C)
    packed = torch.zeros(K, pitch)
    packed[:, :C] = weight[0].t()
    out = poison((len(lengths), T_cap), out_dtype)
    r = ranges_tensor(ranges)
    params = Params(
        weight=pointer(packed),
        bias=pointer(bias),
        alpha=pointer(snake[0]),
        inv_beta=pointer(snake[1]),
        filters=pointer(filters),
        out=pointer(out),
        ranges=pointer(r),
        out_stride=T_cap,
        branches=branches,
        T_cap=T_cap,
        C=C,
        K=K,
        scale=scale,
        extra=extra,
        slope=SLOPE,
        out_dtype=DTYPE_CODES[out_dtype],
        end=ENDS[end],
        pitch=pitch,
        segment=segment,
    )
    for j in range(3):
        params.x[j] = pointer(xs[j if j < branches else 0])
    is_snake = act == "snake"
    rows_held = threads + K - 1
    shared = 4 * pitch * (2 * rows_held + 12 if is_snake else rows_held)
    buffers = [*xs, packed, out, r, filters, *snake, *([bias] if bias is not None else [])]
    name = f"tail_kernel<{C_NAMES[in_dtype]}, {'true' if is_snake else 'false'}>"
    result = kernels("tail_launch.cu", arch).launch(
        name,
        (-(-T_cap // threads), 1, len(lengths)),
        threads,
        [params, act == "leaky_relu"],
        buffers=buffers,
        shared=shared,
        seed=1,
    )
    tolerance = {torch.float32: 3e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}[out_dtype]
    for b, start in enumerate(starts):
        if lengths[b] == 0:
            assert out[b].isnan().all()
            continue
        want = reference([r[b].double() for r in rows], weight, bias, act, snake, filters, end)
        first = start * scale
        got = out[b, first : first + want.numel()].double()
        assert (got - want).abs().max() <= tolerance * max(1.0, want.abs().max())
        assert out[b, :first].isnan().all() and out[b, first + want.numel() :].isnan().all()
    return out, result.stats


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("C,act,end", [(16, "leaky_relu", "tanh"), (24, "snake", "clamp")])
def test_real_shapes(arch, C, act, end):
    threads = 192 if act == "snake" else 256
    check(arch, C, [11, 4], act=act, end=end, threads=threads, scale=40, out_dtype=torch.float16)


@pytest.mark.parametrize("act", ["leaky_relu", "snake"])
@pytest.mark.parametrize("T", [1, 2, 3, 4, 5, 7, 63, 64, 65, 67, 68, 69, 127, 131])
def test_edge_lengths(T, act):
    check(80, 24, [T, 0, 1, T + 1], act=act, threads=64, segment=10)


@pytest.mark.parametrize(
    "C,K,branches", [(16, 7, 1), (24, 7, 2), (18, 5, 3), (7, 3, 3), (32, 9, 3)]
)
@pytest.mark.parametrize("act", ["leaky_relu", "snake", "none"])
def test_other_shapes(C, K, branches, act):
    check(
        75,
        C,
        [50, 23],
        K=K,
        branches=branches,
        act=act,
        bias=False,
        end="none",
        threads=64,
        scale=2,
        extra=1,
        segment=17,
    )


@pytest.mark.parametrize("in_dtype", [torch.float16, torch.bfloat16])
def test_compute_dtype_input(in_dtype):
    """What a separate anti-aliased activation hands over: one stream, no activation left."""
    check(80, 24, [90], in_dtype=in_dtype, out_dtype=in_dtype, act="none", branches=1, end="clamp")


def test_bits_do_not_depend_on_tiles():
    for act in ("leaky_relu", "snake"):
        outputs = [
            check(80, 24, [301], act=act, threads=t, segment=s)[0]
            for t, s in ((64, 10), (128, 18), (192, 26))
        ]
        for other in outputs[1:]:
            assert torch.equal(outputs[0].nan_to_num(), other.nan_to_num())


@pytest.mark.parametrize("C,act,segment", [(16, "leaky_relu", 26), (24, "snake", 26)])
def test_traffic_and_bank_conflicts(C, act, segment):
    threads = 192
    T = 4 * threads
    _, stats = check(80, C, [T], act=act, threads=threads, segment=segment)
    assert stats["unique_bytes_read"] <= 3 * 4 * T * C + 4096
    for kind in ("shared_load", "shared_store"):
        assert stats[kind]["wavefronts"] <= 1.25 * stats[kind]["ideal_wavefronts"], kind
    assert stats["local_load"]["useful_bytes"] == stats["local_store"]["useful_bytes"] == 0
