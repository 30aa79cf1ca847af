"""The tensor-core convolution on emulated devices against float64: residual, upsampling, head."""

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

from vocoder_kernels.ops.cuda_conv import pack_fragments

ARCHITECTURES = (75, 80, 86, 89, 90)
SHAPES = {  # ConvShape arguments of each tile, as compiled
    "ActivatedSource": ((64, 128, 4, 3), (64, 64, 4, 6), (32, 64, 8, 6)),
    "MeanSource": ((64, 128, 4, 3), (32, 64, 4, 6)),
    "StridedSource": ((64, 64, 2, 6), (32, 64, 2, 8)),
}
FILES = {torch.float16: "conv_fp16.cu", torch.bfloat16: "conv_bf16.cu"}
# Rounding of the inputs is shared with the reference; what is left is that of the outputs.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}


class Branch(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in ("x", "weight", "bias", "residual", "stream", "activated")),
        *((n, ctypes.c_int) for n in ("K", "dilation", "first_tap")),
    ]


class Params(ctypes.Structure):
    _fields_ = [
        ("branches", Branch * 4),
        ("means", ctypes.c_void_p * 4),
        *((n, ctypes.c_int64) for n in ("stride_b", "stride_c", "stride_t")),
        ("x_dtype", ctypes.c_int),
        ("source", ctypes.c_void_p),
        ("inputs", ctypes.c_int),
        ("slope_in", ctypes.c_float),
        ("cond", ctypes.c_void_p),
        ("cond_stride", ctypes.c_int64),
        ("slope_out", ctypes.c_float),
        ("ranges", ctypes.c_void_p),
        *((n, ctypes.c_int) for n in ("scale_in", "extra_in", "scale_out", "extra_out")),
        *(
            (n, ctypes.c_int)
            for n in ("T_in_cap", "T_out_cap", "C_in", "C_out", "stride", "padding")
        ),
    ]


def launch(arch, source, dtype, tile, params, branches, B, buffers, check=True):
    shape = SHAPES[source][tile]
    rows, columns = shape[:2]
    reach = max((b.K - 1) * b.dilation for b in params.branches[:branches])
    name = f"conv_kernel<ConvShape<{C_NAMES[dtype]}, {', '.join(map(str, shape))}>, {source}<"
    N = params.stride * params.C_out
    m_cap = params.T_out_cap // params.stride + (0 if params.stride == 1 else 2)
    return (
        kernels(FILES[dtype], arch)
        .launch(
            name,
            (-(-m_cap // rows), -(-N // columns), branches * B),
            columns,
            [params, B],
            shared=2 * 64 * (rows + reach),
            buffers=buffers,
            seed=1 if check else None,
            check=check,
        )
        .stats
    )


def windows(lengths, scale, extra):
    """Ranges with different starts, and a window that has rows to spare behind the last."""
    starts = [b % 3 for b in range(len(lengths))]
    ranges = [(s, s + n) for s, n in zip(starts, lengths)]
    return starts, ranges, max(e for _, e in ranges) * scale + max(extra, 0) + 7


def expect(buffer, wants, firsts, dtype):
    for b, (want, first) in enumerate(zip(wants, firsts)):
        got = buffer[b, first : first + want.shape[0]].double()
        if want.numel():
            assert (got - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()
        assert buffer[b, :first].isnan().all() and buffer[b, first + want.shape[0] :].isnan().all()


def check_residual(
    arch,
    C_in,
    C_out,
    kernel_sizes,
    dilations,
    lengths,
    *,
    dtype=torch.float16,
    tile=1,
    scale=1,
    extra=0,
    residual=True,
    stream=True,
    activated=True,
    bias=True,
    slope=0.1,
    seed=0,
    check=True,
):
    g = torch.Generator().manual_seed(seed)
    starts, ranges, T_cap = windows(lengths, scale, extra)
    firsts = [s * scale for s in starts]
    r = ranges_tensor(ranges)
    params = Params(
        slope_out=slope,
        ranges=pointer(r),
        scale_in=scale,
        extra_in=extra,
        scale_out=scale,
        extra_out=extra,
        T_in_cap=T_cap,
        T_out_cap=T_cap,
        C_in=C_in,
        C_out=C_out,
        stride=1,
    )
    buffers, results, wants = [r], [], []
    for branch, K, d in zip(params.branches, kernel_sizes, dilations):
        rows = [torch.randn(n * scale + extra, C_in, generator=g).to(dtype) for n in lengths]
        adds = [torch.randn(n * scale + extra, C_out, generator=g) for n in lengths]
        weight = (torch.randn(C_out, C_in, K, generator=g) / (C_in * K) ** 0.5).to(dtype)
        b = torch.randn(C_out, generator=g) if bias else None
        x, res = place(rows, firsts, T_cap), place(adds, firsts, T_cap) if residual else None
        packed = pack_fragments(weight.permute(2, 1, 0), dtype)
        y = poison((len(lengths), T_cap, C_out), torch.float32) if stream else None
        a = poison((len(lengths), T_cap, C_out), dtype) if activated else None
        branch.x, branch.weight, branch.bias = pointer(x), pointer(packed), pointer(b)
        branch.residual, branch.stream, branch.activated = pointer(res), pointer(y), pointer(a)
        branch.K, branch.dilation, branch.first_tap = K, d, -d * (K - 1) // 2
        buffers += [t for t in (x, packed, b, res, y, a) if t is not None]
        results.append((y, a))
        wants.append([])
        for row, add in zip(rows, adds):
            if not len(row):
                wants[-1].append(add.double())
                continue
            want = F.conv1d(
                row.double().t()[None],
                weight.double(),
                None if b is None else b.double(),
                padding=d * (K - 1) // 2,
                dilation=d,
            )
            wants[-1].append(want[0].t() + (add.double() if residual else 0))
    stats = launch(
        arch,
        "ActivatedSource",
        dtype,
        tile,
        params,
        len(kernel_sizes),
        len(lengths),
        buffers,
        check,
    )
    for (y, a), want in zip(results, wants):
        if y is not None:
            expect(y, want, firsts, torch.float32)
        if a is not None:
            expect(a, [F.leaky_relu(w, slope) for w in want], firsts, dtype)
    return results, stats


def check_upsample(
    arch,
    C_in,
    C_out,
    K,
    stride,
    padding,
    lengths,
    *,
    inputs,
    dtype=torch.float16,
    tile=1,
    scale=1,
    extra=0,
    activated=True,
    bias=True,
    seed=0,
):
    g = torch.Generator().manual_seed(seed)
    starts, ranges, T_in_cap = windows(lengths, scale, extra)
    scale_out, extra_out = scale * stride, extra * stride + K - stride - 2 * padding
    T_out_cap = windows(lengths, scale_out, extra_out)[2]
    taps = -(-K // stride)
    r = ranges_tensor(ranges)
    weight = (torch.randn(C_in, C_out, K, generator=g) / (C_in * taps) ** 0.5).to(dtype)
    b = torch.randn(C_out, generator=g) if bias else None
    phases = weight.new_zeros(C_in, C_out, taps * stride)
    phases[..., :K] = weight
    phases = phases.view(C_in, C_out, taps, stride).permute(2, 0, 3, 1)
    packed = pack_fragments(phases.reshape(taps, C_in, -1).flip(0), dtype)
    y = poison((len(lengths), T_out_cap, C_out), torch.float32)
    a = poison((len(lengths), T_out_cap, C_out), dtype) if activated else None
    in_dtype = torch.float32 if inputs else dtype
    rows = [
        [torch.randn(n * scale + extra, C_in, generator=g).to(in_dtype) for n in lengths]
        for _ in range(max(inputs, 1))
    ]
    xs = [place(v, [s * scale for s in starts], T_in_cap) for v in rows]
    params = Params(
        inputs=inputs,
        slope_in=0.1,
        slope_out=0.1,
        ranges=pointer(r),
        scale_in=scale,
        extra_in=extra,
        scale_out=scale_out,
        extra_out=extra_out,
        T_in_cap=T_in_cap,
        T_out_cap=T_out_cap,
        C_in=C_in,
        C_out=C_out,
        stride=stride,
        padding=padding,
    )
    branch = params.branches[0]
    branch.weight, branch.bias = pointer(packed), pointer(b)
    branch.stream, branch.activated = pointer(y), pointer(a)
    branch.K, branch.dilation, branch.first_tap = taps, 1, 1 - taps
    branch.x = pointer(xs[0])
    for j, x in enumerate(xs):
        params.means[j] = pointer(x)
    buffers = [t for t in (r, packed, b, y, a, *xs) if t is not None]
    source = "MeanSource" if inputs else "ActivatedSource"
    stats = launch(arch, source, dtype, tile, params, 1, len(lengths), buffers)
    wants = []
    for i, n in enumerate(lengths):
        if n == 0:
            wants.append(torch.zeros(0, C_out))
            continue
        h = sum(v[i].double() for v in rows) / len(rows)
        if inputs:
            h = F.leaky_relu(h, 0.1).to(dtype).double()
        want = F.conv_transpose1d(
            h.t()[None],
            weight.double(),
            None if b is None else b.double(),
            stride=stride,
            padding=padding,
        )
        wants.append(want[0].t())
    firsts = [s * scale_out for s in starts]
    # The mean in fp32 may round to the other neighbour in the compute dtype than that in float64.
    expect(y, wants, firsts, dtype if inputs else torch.float32)
    if a is not None:
        expect(a, [F.leaky_relu(w, 0.1) for w in wants], firsts, dtype)
    return stats


def check_head(
    arch,
    C_in,
    C_out,
    lengths,
    *,
    K=7,
    dtype=torch.float16,
    x_dtype=torch.float32,
    cond=True,
    tile=1,
    seed=0,
):
    g = torch.Generator().manual_seed(seed)
    starts, ranges, T_cap = windows(lengths, 1, 0)
    r = ranges_tensor(ranges)
    # The caller's rows in another order, sample 0 of odd windows before the caller's first.
    last = len(lengths) - 1
    source = torch.tensor(
        [[last - i, -s if i % 2 else 2] for i, s in enumerate(starts)], dtype=torch.int32
    )
    x = poison((len(lengths), C_in, T_cap + 3), x_dtype)[..., :T_cap]
    rows = [torch.randn(C_in, n, generator=g).to(x_dtype) for n in lengths]
    for row, s, (index, time) in zip(rows, starts, source.tolist()):
        x[index, :, s + time : s + time + row.shape[1]] = row
    weight = (torch.randn(C_out, C_in, K, generator=g) / (C_in * K) ** 0.5).to(dtype)
    b, v = torch.randn(C_out, generator=g), torch.randn(len(lengths), C_out, generator=g)
    packed = pack_fragments(weight.permute(2, 1, 0), dtype)
    a = poison((len(lengths), T_cap, C_out), dtype)
    params = Params(
        slope_out=0.1,
        ranges=pointer(r),
        scale_in=1,
        scale_out=1,
        T_in_cap=T_cap,
        T_out_cap=T_cap,
        C_in=C_in,
        C_out=C_out,
        stride=1,
        stride_b=x.stride(0),
        stride_c=x.stride(1),
        stride_t=x.stride(2),
        x_dtype=DTYPE_CODES[x_dtype],
        source=pointer(source),
        cond=pointer(v if cond else None),
        cond_stride=C_out,
    )
    branch = params.branches[0]
    branch.x, branch.weight, branch.bias = pointer(x), pointer(packed), pointer(b)
    branch.activated = pointer(a)
    branch.K, branch.dilation, branch.first_tap = K, 1, -(K // 2)
    launch(
        arch, "StridedSource", dtype, tile, params, 1, len(lengths), [x, packed, b, v, a, r, source]
    )
    wants = []
    for i, row in enumerate(rows):
        if not row.numel():
            wants.append(row.new_zeros(0, C_out))
            continue
        want = F.conv1d(row.to(dtype).double()[None], weight.double(), b.double(), padding=K // 2)
        want = want[0].t() + (v[last - i].double() if cond else 0)
        wants.append(F.leaky_relu(want, 0.1))
    expect(a, wants, starts, dtype)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_branches_of_a_stage(arch):
    check_residual(arch, 128, 128, (11, 7, 3), (5, 3, 1), [11, 3], scale=6)


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    "inputs,C_in,C_out,K,stride,padding", [(3, 128, 64, 4, 2, 1), (0, 192, 48, 20, 10, 5)]
)
def test_upsampling(arch, inputs, C_in, C_out, K, stride, padding):
    check_upsample(arch, C_in, C_out, K, stride, padding, [21, 5], inputs=inputs)


@pytest.mark.parametrize("arch", (75, 80))
def test_empty_rows(arch):
    check_residual(arch, 64, 64, (7, 3), (3, 1), [0, 5, 0])
    check_upsample(arch, 64, 32, 4, 2, 1, [0, 5, 0], inputs=2)
    check_head(arch, 44, 64, [0, 5, 0])


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_head(arch):
    check_head(arch, 100, 128, [37, 5])


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("T", [1, 2, 24, 31, 32, 33, 63, 64, 65, 127, 128, 129, 131])
def test_edge_lengths(tile, T):
    """K = 11, d = 5 has halo 25; tiles have 32 or 64 rows."""
    check_residual(80, 32, 64, (11,), (5,), [T, 1], tile=tile)


@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 67])
def test_edge_lengths_without_asynchronous_copies(T):
    check_residual(75, 64, 64, (11, 3), (5, 1), [T, 1])
    check_residual(75, 64, 64, (1,), (1,), [T], tile=1)


@pytest.mark.parametrize(
    "K,stride,padding,extra",
    [(16, 10, 3, 0), (2, 2, 0, 0), (8, 2, 3, 0), (12, 6, 3, 2), (5, 2, 1, 1), (3, 3, 0, 0)],
)
@pytest.mark.parametrize("arch", (75, 80))
def test_upsampling_geometries(arch, K, stride, padding, extra):
    for tile in range(2):
        check_upsample(arch, 64, 32, K, stride, padding, [1, 33], inputs=2, tile=tile, extra=extra)


@pytest.mark.parametrize("inputs", [1, 2, 3, 4])
def test_mean_of_branches(inputs):
    check_upsample(80, 64, 32, 4, 2, 1, [17], inputs=inputs)


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("C_in,C_out", [(96, 96), (40, 100), (256, 192)])
def test_other_channels(tile, C_in, C_out):
    check_residual(80, C_in, C_out, (3,), (1,), [29, 6], tile=tile, scale=2, extra=1)


@pytest.mark.parametrize(
    "residual,stream,activated,bias",
    [(False, False, True, True), (True, True, False, True), (False, True, False, False)],
)
def test_epilogues(residual, stream, activated, bias):
    check_residual(
        86,
        64,
        64,
        (3, 3),
        (1, 3),
        [40],
        residual=residual,
        stream=stream,
        activated=activated,
        bias=bias,
    )


def test_bfloat16():
    check_residual(80, 64, 64, (7,), (3,), [45], dtype=torch.bfloat16)
    check_upsample(80, 64, 32, 4, 2, 1, [45], inputs=3, dtype=torch.bfloat16)
    check_head(80, 100, 64, [45], dtype=torch.bfloat16, x_dtype=torch.bfloat16, cond=False)


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tile", range(2))
def test_head_inputs(x_dtype, tile):
    check_head(75, 44, 64, [70, 1], x_dtype=x_dtype, tile=tile)


def test_bits_do_not_depend_on_tiles():
    outputs = [check_residual(80, 96, 64, (7, 3), (3, 1), [150], tile=t)[0] for t in range(3)]
    for other in outputs[1:]:
        for ours, theirs in zip(outputs[0], other):
            assert torch.equal(ours[0].nan_to_num(), theirs[0].nan_to_num())
            assert torch.equal(ours[1].nan_to_num(), theirs[1].nan_to_num())


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("arch", (75, 80))
def test_shared_memory_has_no_bank_conflicts(arch, tile):
    T = 128
    _, stats = check_residual(arch, 64, 128, (7,), (3,), [T], tile=tile)
    assert stats["ldmatrix"]["wavefronts"] == stats["ldmatrix"]["ideal_wavefronts"]
    for kind in ("cp_async_shared", "shared_store"):
        assert stats[kind]["wavefronts"] <= 1.25 * stats[kind]["ideal_wavefronts"], kind
    assert stats["local_load"]["useful_bytes"] == stats["local_store"]["useful_bytes"] == 0
    # 7 taps of 64 channels to 128 for 135 rows in tiles: no multiplication beyond the tiles.
    rows = SHAPES["ActivatedSource"][tile][0]
    tiles = -(-T // rows)
    issued = sum(m["flops"] for m in stats["mma"].values())
    assert issued == 2 * tiles * rows * 7 * 64 * 128
