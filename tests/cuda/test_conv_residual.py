"""The convolutions of residual branches on emulated devices against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from conv_emulated import ARCHITECTURES, SHAPES, Params, expect, launch, windows
from emulation import place, pointer, poison, ranges_tensor

from vocoder_kernels.ops.cuda_conv import pack_fragments


def draw(lengths, C, generator, dtype=torch.float32, cut=None):
    """Rows of one tensor; with ``cut`` the last row is those samples of the first."""
    rows = [torch.randn(n, C, generator=generator).to(dtype) for n in lengths]
    if cut:
        rows[-1] = rows[0][slice(*cut)]
    return rows


def convolved(row, weight, bias, dilation):
    if not len(row):
        return row.new_zeros(0, weight.shape[0], dtype=torch.float64)
    bias = None if bias is None else bias.double()
    padding = dilation * (weight.shape[2] - 1) // 2
    x = row.double().t()[None]
    return F.conv1d(x, weight.double(), bias, padding=padding, dilation=dilation)[0].t()


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
    residual_slope=None,
    in_place=False,
    mean=False,
    stream=True,
    activated=True,
    bias=True,
    slope=0.1,
    cut=None,
    seed=0,
    check=True,
):
    """Launch and compare; returns the outputs, (stream, activated) of a branch or of the mean, and
    counters. ``in_place``: the outputs lie over the residuals."""
    g = torch.Generator().manual_seed(seed)
    starts, ranges, T_cap = windows(lengths, scale, extra)
    firsts = [s * scale for s in starts]
    samples = [n * scale + extra for n in lengths]
    shape = (len(lengths), T_cap, C_out)
    r, n = ranges_tensor(ranges), len(kernel_sizes)
    params = Params(
        inputs=n, slope_out=slope, undo=1 / residual_slope if residual_slope else 0, stride=1,
        scale_in=scale, extra_in=extra, scale_out=scale, extra_out=extra, ranges=pointer(r),
        T_in_cap=T_cap, T_out_cap=T_cap, C_in=C_in, C_out=C_out,
    )  # fmt: skip
    buffers, results, wants = [r], [], []
    for j, (branch, K, d) in enumerate(zip(params.branches, kernel_sizes, dilations)):
        rows, adds = draw(samples, C_in, g, dtype, cut), draw(samples, C_out, g, cut=cut)
        weight = (torch.randn(C_out, C_in, K, generator=g) / (C_in * K) ** 0.5).to(dtype)
        b = torch.randn(C_out, generator=g) if bias else None
        want = [convolved(row, weight, b, d) for row in rows]
        if residual_slope:
            adds = [F.leaky_relu(v, residual_slope).to(dtype) for v in adds]
            undone = [torch.where(v < 0, v.double() / residual_slope, v.double()) for v in adds]
        else:
            undone = [v.double() for v in adds]
        wants.append([w + v for w, v in zip(want, undone)] if residual else want)
        x, res = place(rows, firsts, T_cap), place(adds, firsts, T_cap) if residual else None
        packed = pack_fragments(weight.permute(2, 1, 0), dtype)
        branch.x, branch.weight, branch.bias = pointer(x), pointer(packed), pointer(b)
        branch.residual = pointer(res)
        branch.K, branch.dilation, branch.first_tap = K, d, -d * (K - 1) // 2
        y = a = None
        if not mean or j == 0:
            y = poison(shape, torch.float32) if stream else None
            a = poison(shape, dtype) if activated else None
            if in_place:
                y, a = (y, res) if residual_slope else (res, a)
            branch.stream, branch.activated = pointer(y), pointer(a)
            results.append((y, a))
        buffers += [t for t in (x, packed, b, res) if t is not None]
        buffers += [t for t in (y, a) if t is not None and t is not res]
    if mean:
        wants = [[sum(row) / n for row in zip(*wants)]]
    stats = launch(
        arch, "ActivatedSource", dtype, tile, params, n, len(lengths), buffers, check, mean
    )
    for (y, a), want in zip(results, wants):
        if y is not None:
            expect(y, want, firsts, torch.float32)
        if a is not None:
            expect(a, [F.leaky_relu(w, slope) for w in want], firsts, dtype)
    return results, stats


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_branches_of_a_stage(arch):
    check_residual(arch, 128, 128, (11, 7, 3), (5, 3, 1), [11, 3], scale=6)


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("T", [1, 2, 24, 31, 32, 33, 63, 64, 65, 127, 128, 129, 131])
def test_edge_lengths(tile, T):
    """K = 11, d = 5 has halo 25; tiles have 32 or 64 rows."""
    check_residual(80, 32, 64, (11,), (5,), [T, 1], tile=tile)


@pytest.mark.parametrize("T", [1, 2, 63, 64, 65, 67])
def test_edge_lengths_without_asynchronous_copies(T):
    check_residual(75, 64, 64, (11, 3), (5, 1), [T, 1])
    check_residual(75, 64, 64, (1,), (1,), [T], tile=1)


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


@pytest.mark.parametrize("arch", (75, 80))
def test_empty_rows(arch):
    check_residual(arch, 64, 64, (7, 3), (3, 1), [0, 5, 0])
    check_residual(arch, 64, 64, (7, 3), (3, 1), [0, 5, 0], mean=True)


def test_bfloat16():
    check_residual(80, 64, 64, (7,), (3,), [45], dtype=torch.bfloat16)
    check_residual(
        80, 64, 64, (7, 3), (3, 1), [45], dtype=torch.bfloat16, mean=True, residual_slope=0.1
    )


@pytest.mark.parametrize("mean", (False, True))
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_residuals_that_are_activated_tensors(arch, mean):
    check_residual(
        arch,
        64,
        128,
        (11, 7, 3),
        (5, 3, 1),
        [11, 3],
        scale=6,
        extra=1,
        residual_slope=0.1,
        mean=mean,
    )


@pytest.mark.parametrize("residual_slope", (1.0, 0.01, 0.3))
def test_residual_slopes(residual_slope):
    check_residual(80, 64, 64, (3, 7), (1, 1), [70], residual_slope=residual_slope, stream=False)


@pytest.mark.parametrize("residual_slope", (None, 0.1))
@pytest.mark.parametrize("arch", (75, 80))
def test_outputs_over_their_residuals(arch, residual_slope):
    check_residual(
        arch, 64, 64, (7, 3), (1, 1), [66, 1], residual_slope=residual_slope, in_place=True,
        stream=residual_slope is None, activated=residual_slope is not None,
    )  # fmt: skip


@pytest.mark.parametrize(
    "options",
    [
        {"residual_slope": 0.1, "stream": False},
        {"activated": False},
        {"residual": False, "bias": False},
    ],
    ids=lambda options: ",".join(options),
)
@pytest.mark.parametrize("kernel_sizes", [(3,), (3, 11), (11, 7, 3), (3, 1, 7, 3)])
@pytest.mark.parametrize("arch", (75, 80))
def test_means(arch, kernel_sizes, options):
    """Reaches that grow and shrink from branch to branch; a branch of one tap and one chunk."""
    check_residual(
        arch, 64, 64, kernel_sizes, (5, 3, 1, 1), [37, 5], scale=2, extra=1, mean=True, **options
    )


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("T", [1, 32, 33, 64, 65, 129])
@pytest.mark.parametrize("arch", (75, 80))
def test_means_at_edge_lengths(arch, T, tile):
    check_residual(arch, 32, 64, (11, 3), (5, 1), [T, 1], tile=tile, mean=True, residual_slope=0.1)


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("C_in,C_out", [(40, 100), (256, 192)])
def test_means_of_other_channels(tile, C_in, C_out):
    check_residual(80, C_in, C_out, (3, 7, 1), (1, 1, 1), [29, 6], tile=tile, mean=True)


@pytest.mark.parametrize("arch", (75, 80))
def test_bits_of_means_depend_on_neither_tile_nor_window(arch):
    """The second row is a window of the first at another place in its tile."""
    begin, end, halo, firsts = 37, 140, 15, (0, 1)
    outputs = []
    for tile in range(3):
        (results,), _ = check_residual(
            arch, 96, 64, (7, 11, 3), (3, 3, 1), [150, end - begin], tile=tile, mean=True,
            residual_slope=0.1, cut=(begin, end),
        )  # fmt: skip
        for whole, window in results:
            inner = slice(halo + firsts[1], end - begin - halo + firsts[1])
            assert torch.equal(whole[begin + halo : end - halo], window[inner])
        outputs.append(results)
    for other in outputs[1:]:
        for ours, theirs in zip(outputs[0], other):
            assert torch.equal(ours.nan_to_num(), theirs.nan_to_num())


@pytest.mark.parametrize("tile", range(3))
@pytest.mark.parametrize("arch", (75, 80))
def test_means_multiply_no_more_than_the_tiles(arch, tile):
    T, taps = 128, (7, 3)
    _, stats = check_residual(arch, 64, 128, taps, (3, 1), [T], tile=tile, mean=True)
    assert stats["ldmatrix"]["wavefronts"] == stats["ldmatrix"]["ideal_wavefronts"]
    assert stats["local_load"]["useful_bytes"] == stats["local_store"]["useful_bytes"] == 0
    rows = SHAPES["ActivatedSource"][tile][0]
    issued = sum(m["flops"] for m in stats["mma"].values())
    assert issued == 2 * -(-T // rows) * rows * sum(taps) * 64 * 128
