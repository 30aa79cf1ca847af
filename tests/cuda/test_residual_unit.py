"""The fused residual unit on emulated devices against float64."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from emulation import place, poison, ranges_tensor
from references import alias_free, snake_weights
from residual_unit_emulated import Branch, prepare, variants

ARCHITECTURES = (75, 80, 86, 89, 90)
LEAKY, SNAKE = False, True
SLOPE = 0.1
# Of the largest output: rounding of the inner activations, K * C products each, to 11 or 8 bits.
TOLERANCE = {torch.float16: 1e-3, torch.bfloat16: 8e-3}


def reference(x, branch, dtype, filters):
    """``x: [T, C]`` float64, weights as rounded to the compute dtype."""
    y = x
    for i, (weight, bias) in enumerate(zip(branch.weights, branch.biases)):
        if filters is None:
            y = F.leaky_relu(y, SLOPE)
        else:
            y = alias_free(y, *branch.snakes[i], filters)
        d = branch.dilation if i == 0 else 1
        w = weight.to(dtype).double()
        y = F.conv1d(y.t()[None], w, bias.double(), padding=d * (w.shape[2] // 2), dilation=d)[
            0
        ].t()
    return x + y


def check(
    arch,
    C,
    snake,
    kernel_sizes,
    dilations,
    lengths,
    *,
    convs=2,
    dtype=torch.float16,
    variant=0,
    scale=1,
    extra=0,
    shared_input=False,
    seed=0,
    **options,
):
    """Ragged rows at different starts in NaN windows; ``lengths`` are frames, 0 an empty row."""
    g = torch.Generator().manual_seed(seed)
    filters = snake_weights.filters() if snake else None
    starts = [b % 3 for b in range(len(lengths))]
    ranges = [(s, s + n) for s, n in zip(starts, lengths)]
    sizes = [n * scale + extra if n else 0 for n in lengths]
    T_cap = max(e for _, e in ranges) * scale + max(extra, 0) + 5
    branches, rows = [], []
    for K, d in zip(kernel_sizes, dilations):
        if not rows or not shared_input:
            rows.append([torch.randn(n, C, generator=g) for n in sizes])
        x = place(rows[-1], [s * scale for s in starts], T_cap)
        weights = [torch.randn(C, C, K, generator=g) / (C * K) ** 0.5 for _ in range(convs)]
        biases = [0.3 * torch.randn(C, generator=g) for _ in range(convs)]
        snakes = [snake_weights.random(C, g) for _ in range(convs)] if snake else ()
        branches.append(Branch(x, poison(x.shape, torch.float32), weights, biases, d, snakes))
    kernel = variants(C, snake, dtype)[variant]
    launch = prepare(kernel, branches, ranges_tensor(ranges), scale, extra, SLOPE, filters)
    result = launch.run(arch, seed=1, **options)
    for j, branch in enumerate(branches):
        for b, (start, n) in enumerate(zip(starts, sizes)):
            first = start * scale
            got = branch.out[b, first : first + n].double()
            if n:
                want = reference(rows[min(j, len(rows) - 1)][b].double(), branch, dtype, filters)
                assert (got - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()
            assert branch.out[b, :first].isnan().all() and branch.out[b, first + n :].isnan().all()
    return [b.out for b in branches], result.stats


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize(
    "C,snake", [(64, LEAKY), (32, LEAKY), (16, LEAKY), (96, SNAKE), (48, SNAKE), (24, SNAKE)]
)
def test_stages_of_v4_and_v3(arch, C, snake):
    check(arch, C, snake, (11, 7, 3), (5, 3, 1), [19, 0, 4], scale=8)


@pytest.mark.parametrize(
    "C,snake", [(24, LEAKY), (48, LEAKY), (96, LEAKY), (16, SNAKE), (32, SNAKE), (64, SNAKE)]
)
@pytest.mark.parametrize("arch", (75, 80))
def test_other_channels(arch, C, snake):
    check(arch, C, snake, (7, 3), (3, 1), [41, 3], scale=2, extra=1, variant=1, shared_input=True)


@pytest.mark.parametrize("snake", (LEAKY, SNAKE))
@pytest.mark.parametrize("T", [1, 2, 5, 6, 29, 30, 31, 97, 107, 117, 118, 119, 128, 129, 131, 251])
def test_edge_lengths(T, snake):
    """K = 11 and d = 5: halo 30, with snakes 40; tiles of 128 rows give 118 or 108 outputs."""
    check(80, 24 if snake else 16, snake, (11,), (5,), [T, 1], variant=1)


@pytest.mark.parametrize("snake", (LEAKY, SNAKE))
def test_one_convolution(snake):
    for d in (1, 3, 5):
        check(75, 32, snake, (3, 5, 7), (d, d, d), [133, 20], convs=1, variant=1)


@pytest.mark.parametrize("snake", (LEAKY, SNAKE))
@pytest.mark.parametrize("C", (16, 24, 64))
def test_bfloat16(C, snake):
    check(80, C, snake, (7, 3), (3, 1), [70], dtype=torch.bfloat16, variant=1)


@pytest.mark.parametrize("C,snake", [(32, LEAKY), (24, SNAKE), (96, SNAKE)])
def test_bits_do_not_depend_on_tile_or_position(C, snake):
    """The same row in both tiles, and in a batch behind others and at another start."""
    T = 301
    outputs = []
    for variant, lengths in ((0, [T]), (1, [T]), (1, [T, 3])):
        (out,), _ = check(80, C, snake, (7,), (3,), lengths, variant=variant, shared_input=True)
        outputs.append(out[0, :T])
    assert torch.equal(outputs[0], outputs[1])
    again = shifted(C, snake, T)
    assert torch.equal(again[0], again[1])


def shifted(C, snake, T):
    """One row at sample 0 and, by a longer window before it, in the middle of another tile."""
    g = torch.Generator().manual_seed(3)
    row = torch.randn(T, C, generator=g)
    weights = [torch.randn(C, C, 7, generator=g) / (7 * C) ** 0.5 for _ in range(2)]
    biases = [torch.randn(C, generator=g) for _ in range(2)]
    snakes = [snake_weights.random(C, g) for _ in range(2)] if snake else ()
    x = place([row, row], [0, 37], T + 50)
    branch = Branch(x, poison(x.shape, torch.float32), weights, biases, 3, snakes)
    filters = snake_weights.filters() if snake else None
    ranges = ranges_tensor([(0, T), (37, 37 + T)])
    prepare(variants(C, snake)[1], [branch], ranges, 1, 0, SLOPE, filters).run(80, seed=2)
    return branch.out[0, :T], branch.out[1, 37 : 37 + T]


@pytest.mark.parametrize(
    "C,snake", [(64, LEAKY), (32, LEAKY), (16, LEAKY), (96, SNAKE), (48, SNAKE), (24, SNAKE)]
)
def test_shared_memory_and_products(C, snake):
    kernel, K, T = variants(C, snake)[0], 7, 500
    _, stats = check(80, C, snake, (K,), (1,), [T])
    assert stats["ldmatrix"]["wavefronts"] == stats["ldmatrix"]["ideal_wavefronts"]
    for kind in ("shared_load", "shared_store"):
        assert stats[kind]["wavefronts"] <= 1.05 * stats[kind]["ideal_wavefronts"], kind
    assert stats["local_load"]["useful_bytes"] == stats["local_store"]["useful_bytes"] == 0
    # Whole tiles of rows; with an odd number of channel groups the last half step is zeros.
    steps = -(-K * (C // 8) // 2)
    tiles = -(-T // kernel.tile_rows(K, 2))
    assert (
        sum(m["flops"] for m in stats["mma"].values())
        == 2 * 2 * tiles * kernel.rows * steps * 16 * C
    )
