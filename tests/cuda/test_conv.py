"""The tensor-core convolution of upsampling and head on emulated devices against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conv_emulated import ARCHITECTURES, Params, expect, launch, windows
from emulation import DTYPE_CODES, place, pointer, poison, ranges_tensor

from vocoder_kernels.ops.cuda_conv import pack_fragments


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
@pytest.mark.parametrize(
    "inputs,C_in,C_out,K,stride,padding", [(3, 128, 64, 4, 2, 1), (0, 192, 48, 20, 10, 5)]
)
def test_upsampling(arch, inputs, C_in, C_out, K, stride, padding):
    check_upsample(arch, C_in, C_out, K, stride, padding, [21, 5], inputs=inputs)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_head(arch):
    check_head(arch, 100, 128, [37, 5])


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


@pytest.mark.parametrize("x_dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("tile", range(2))
def test_head_inputs(x_dtype, tile):
    check_head(75, 44, 64, [70, 1], x_dtype=x_dtype, tile=tile)


@pytest.mark.parametrize("arch", (75, 80))
def test_empty_rows(arch):
    check_upsample(arch, 64, 32, 4, 2, 1, [0, 5, 0], inputs=2)
    check_head(arch, 44, 64, [0, 5, 0])


def test_bfloat16():
    check_upsample(80, 64, 32, 4, 2, 1, [45], inputs=3, dtype=torch.bfloat16)
    check_head(80, 100, 64, [45], dtype=torch.bfloat16, x_dtype=torch.bfloat16, cond=False)
