"""Whole residual branches on emulated devices, against float64 and against launches per unit."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import residual_unit_emulated as unit
import torch
import torch.nn.functional as F
from emulation import place, poison, ranges_tensor
from residual_branch_emulated import CHANNELS, Branch, halo, prepare, variants

SLOPE = 0.1
# Of the largest output: rounding of six inner activations to 11 or 8 bits.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1.6e-2}
DILATIONS = (1, 3, 5)
TILES = [(C, index) for C in CHANNELS for index in range(len(variants(C)))]


@dataclass
class Layers:
    """Of one branch: per unit the weights and biases of its convolutions, and its dilation."""

    weights: list
    biases: list
    dilations: tuple

    @classmethod
    def random(cls, C, K, dilations, convs, g):
        weights = [
            [torch.randn(C, C, K, generator=g) / (C * K) ** 0.5 for _ in range(convs)]
            for _ in dilations
        ]
        biases = [[0.3 * torch.randn(C, generator=g) for _ in range(convs)] for _ in dilations]
        return cls(weights, biases, dilations)

    def on(self, x, out):
        return Branch(x, out, self.weights, self.biases, self.dilations)


def reference(x, layers, dtype):
    """``x: [T, C]`` float64, weights as rounded to the compute dtype."""
    x = x.t()[None]
    for weights, biases, dilation in zip(layers.weights, layers.biases, layers.dilations):
        y = x
        for i, (weight, bias) in enumerate(zip(weights, biases)):
            d = dilation if i == 0 else 1
            w = weight.to(dtype).double()
            padding = d * (w.shape[2] // 2)
            y = F.conv1d(F.leaky_relu(y, SLOPE), w, bias.double(), padding=padding, dilation=d)
        x = x + y
    return x[0].t()


def by_units(arch, C, dtype, x, layers, ranges, scale, extra):
    """The streams of one launch of the residual unit's kernel after another."""
    kernel = unit.variants(C, False, dtype)[1]
    for weights, biases, dilation in zip(layers.weights, layers.biases, layers.dilations):
        out = poison(x.shape, torch.float32)
        branch = unit.Branch(x, out, weights, biases, dilation)
        unit.prepare(kernel, [branch], ranges, scale, extra, SLOPE).run(arch, seed=1)
        x = out
    return x


def check(
    arch,
    C,
    tile,
    kernel_sizes,
    lengths,
    *,
    dilations=None,
    convs=2,
    dtype=torch.float16,
    scale=1,
    extra=0,
    against_units=False,
    seed=0,
):
    """Ragged rows at different starts in NaN windows; ``lengths`` are frames, 0 an empty row."""
    g = torch.Generator().manual_seed(seed)
    layers = [
        Layers.random(C, K, d, convs, g)
        for K, d in zip(kernel_sizes, dilations or [DILATIONS] * len(kernel_sizes))
    ]
    starts = [b % 3 for b in range(len(lengths))]
    ranges = ranges_tensor([(s, s + n) for s, n in zip(starts, lengths)])
    sizes = [n * scale + extra if n else 0 for n in lengths]
    T_cap = int(ranges.max()) * scale + max(extra, 0) + 5
    rows = [torch.randn(n, C, generator=g) for n in sizes]
    x = place(rows, [s * scale for s in starts], T_cap)
    branches = [one.on(x, poison(x.shape, torch.float32)) for one in layers]
    kernel = variants(C, dtype)[tile]
    result = prepare(kernel, branches, ranges, scale, extra, SLOPE).run(arch, seed=1)
    for one, branch in zip(layers, branches):
        for b, (start, n) in enumerate(zip(starts, sizes)):
            first = start * scale
            assert branch.out[b, :first].isnan().all() and branch.out[b, first + n :].isnan().all()
            if n:
                got = branch.out[b, first : first + n].double()
                want = reference(rows[b].double(), one, dtype)
                assert (got - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()
        if against_units:
            units = by_units(arch, C, dtype, x, one, ranges, scale, extra)
            assert torch.equal(branch.out.nan_to_num(7.0), units.nan_to_num(7.0))
    return [branch.out for branch in branches], result.stats


@pytest.mark.parametrize("arch", (75, 80, 86, 89, 90))
@pytest.mark.parametrize("C", CHANNELS)
def test_stages_of_v4(arch, C):
    """Turing does not have the largest tiles."""
    check(arch, C, int(arch < 80), (11, 7, 3), [19, 0, 4], scale=8, against_units=arch < 86)


@pytest.mark.parametrize("C, tile", TILES)
def test_equal_bits_of_units_in_every_tile(C, tile):
    """Two tiles, the second short, behind another row."""
    n = variants(C)[tile].tile_rows(7, DILATIONS, 2) + 7
    check(80, C, tile, (7, 3), [5, n], against_units=True)


def edges():
    """Lengths about the halo of K = 11 (60) and the rows of output of the smallest tiles."""
    found = []
    for C in CHANNELS:
        rows = variants(C)[-1].tile_rows(11, DILATIONS, 2)
        lengths = (1, 2, 5, 59, 60, 61, 119, 127, rows - 1, rows, rows + 1)
        found += [(C, T) for T in lengths]
    return found


@pytest.mark.parametrize("C, T", edges())
def test_edge_lengths(C, T):
    assert halo(11, DILATIONS, 2) == 60
    check(80, C, len(variants(C)) - 1, (11,), [T, 1], against_units=True)


@pytest.mark.parametrize("C", CHANNELS)
def test_one_convolution_per_unit(C):
    dilations = [(1, 3), (1, 3), (1, 3)]
    check(75, C, 2, (3, 7, 11), [133, 20], dilations=dilations, convs=1, against_units=True)


def test_branches_of_different_depths_and_dilations():
    dilations = [(2,), (1, 2, 4, 1), (5, 1)]
    check(80, 16, 2, (9, 3, 1), [311], dilations=dilations, against_units=True)


def test_lengths_with_a_remainder():
    check(80, 32, 2, (7,), [41, 3], scale=2, extra=1)


@pytest.mark.parametrize("C, tile", TILES)
def test_bfloat16(C, tile):
    check(80, C, tile, (7, 3), [70], dtype=torch.bfloat16, against_units=True)


@pytest.mark.parametrize("C", CHANNELS)
def test_bits_do_not_depend_on_tile_or_batch(C):
    T = variants(C)[0].tile_rows(7, DILATIONS, 2) + 101
    outputs = []
    for tile in range(len(variants(C))):
        (out,), _ = check(80, C, tile, (7,), [T, 3] if tile else [T])
        outputs.append(out[0, :T])
    assert all(torch.equal(outputs[0], out) for out in outputs[1:])


@pytest.mark.parametrize("C", CHANNELS)
def test_bits_do_not_depend_on_position(C):
    """A row at sample 0, and as the middle of a window that begins elsewhere."""
    g = torch.Generator().manual_seed(3)
    T, cut = 601, 137
    row = torch.randn(T, C, generator=g)
    layers = Layers.random(C, 11, DILATIONS, 2, g)
    x = place([row, row[cut:]], [0, 29], T + 50)
    branch = layers.on(x, poison(x.shape, torch.float32))
    ranges = ranges_tensor([(0, T), (29, 29 + T - cut)])
    prepare(variants(C)[2], [branch], ranges, slope=SLOPE).run(80, seed=2)
    reach = halo(11, DILATIONS, 2)
    whole, window = branch.out[0, cut + reach : T], branch.out[1, 29 + reach : 29 + T - cut]
    assert torch.equal(whole, window)


def rows_of_layers(kernel, K):
    """Rows that a CTA multiplies, of all layers: where it has 8 warps, those take turns along the
    rows and leave out a row of 16 at each end that no row of output depends on."""
    total = spent = 0
    for dilation in DILATIONS:
        for d in (dilation, 1):
            spent += d * (K - 1) // 2
            left_out = min(2 * (spent // 16), kernel.warps_m) if kernel.warps_m >= 8 else 0
            total += kernel.rows - 16 * left_out
    return total


@pytest.mark.parametrize("C, tile", TILES)
def test_shared_memory_and_products(C, tile):
    kernel, K, T = variants(C)[tile], 7, 900
    _, stats = check(80, C, tile, (K,), [T])
    assert stats["ldmatrix"]["wavefronts"] == stats["ldmatrix"]["ideal_wavefronts"]
    for kind in ("shared_load", "shared_store"):
        assert stats[kind]["wavefronts"] <= 1.05 * stats[kind]["ideal_wavefronts"], kind
    assert stats["local_load"]["useful_bytes"] == stats["local_store"]["useful_bytes"] == 0
    tiles = -(-T // kernel.tile_rows(K, DILATIONS, 2))
    # With an odd number of channel groups the last half step is zeros.
    steps = -(-K * (C // 8) // 2)
    issued = sum(m["flops"] for m in stats["mma"].values())
    assert issued == 2 * tiles * rows_of_layers(kernel, K) * steps * 16 * C
