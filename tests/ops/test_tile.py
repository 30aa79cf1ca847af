"""Choice of tiles: needs neither Triton nor a GPU."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocoder_kernels.ops.support import Target
from vocoder_kernels.ops.tile import Product, choose_tile, column_tile

F16, F32 = torch.float16, torch.float32
A100 = Target("cuda", 80, 108, 166912)
H100 = Target("cuda", 90, 132, 232448)
RTX4090 = Target("cuda", 89, 128, 101376)
RTX3060 = Target("cuda", 86, 28, 101376)
T4 = Target("cuda", 75, 40, 65536)
GFX942 = Target("hip", 0, 304, 65536)
TARGETS = (A100, H100, RTX4090, RTX3060, T4, GFX942)

products = st.builds(
    lambda rows, columns, taps, channels, row_bytes: Product(
        rows, columns, tuple(k * channels for k in sorted(taps, reverse=True)), channels, row_bytes
    ),
    rows=st.integers(1, 10**6),
    columns=st.integers(1, 4096),
    taps=st.lists(st.integers(1, 15), min_size=1, max_size=4),
    channels=st.integers(1, 1536),
    row_bytes=st.sampled_from((2, 4, 8, 12, 16)),
)


@given(
    product=products,
    target=st.sampled_from(TARGETS),
    numbers=st.sampled_from(((F16, "ieee"), (F32, "ieee"), (F32, "tf32"))),
)
def test_every_tile_fits(product, target, numbers):
    dtype, precision = numbers
    product = replace(product, row_bytes=max(product.row_bytes, dtype.itemsize))
    tile = choose_tile(product, dtype, precision, target)
    assert tile.shared_bytes(product.row_bytes, dtype.itemsize) <= target.shared_bytes
    assert tile.BN >= 16 and tile.BK >= 16
    assert tile.BN < 2 * max(16, product.columns)


@given(product=products)
def test_hopper_uses_one_kind_of_instructions(product):
    assert choose_tile(product, F16, "ieee", H100).BT >= 64


@pytest.mark.parametrize("target", (A100, RTX4090, RTX3060), ids=str)
def test_longer_windows_get_larger_tiles(target):
    def area(rows):
        product = Product(rows, 256, (11 * 256, 7 * 256, 3 * 256), 256, 2)
        tile = choose_tile(product, F16, "ieee", target)
        return tile.BT * tile.BN

    areas = [area(rows) for rows in (32, 320, 1000, 5000, 100000)]
    assert areas == sorted(areas) and areas[0] < areas[-1]


def test_columns_are_not_wasted():
    assert column_tile(192, 128) == 64
    assert column_tile(256, 128) == 128
    assert column_tile(96, 128) == 32
    assert column_tile(24, 128) == 32
    assert column_tile(1, 128) == 16


def test_means_are_not_pipelined():
    product = Product(5000, 768, (512,), 256, 12)
    for target in TARGETS:
        assert choose_tile(product, F16, "ieee", target).num_stages == 1
