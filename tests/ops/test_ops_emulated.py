"""Every GPU operation as Triton compiles it, on the GPU emulator with all its checks on: real layer
shapes against float64, and bits that depend on neither tile, place nor row."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

from op_cases import TARGETS, Case, Output, check, run  # noqa: E402

from vocoder_kernels.ops.alias_free import AliasFreeDesc  # noqa: E402
from vocoder_kernels.ops.alias_free.launch import AliasFreeConfig  # noqa: E402
from vocoder_kernels.ops.head import HeadDesc  # noqa: E402
from vocoder_kernels.ops.residual_conv import ResidualConvDesc  # noqa: E402
from vocoder_kernels.ops.tail import TailDesc  # noqa: E402
from vocoder_kernels.ops.tile import TileConfig  # noqa: E402
from vocoder_kernels.ops.upsample import UpsampleDesc  # noqa: E402

F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
RAGGED = ((0, 35), (7, 7), (2, 3), (5, 37))
K, DILATIONS = (11, 7, 3), (5, 3, 1)


def emulate(
    gpusim: Any, arch: int, case: Case, compare: bool = True, **options: Any
) -> list[Output]:
    """Outputs of the case on an emulated GPU; raises on any finding of its checks."""
    case = replace(case, target=TARGETS[arch])
    with gpusim.triton_patch(arch=arch, seed=1, stats=False) as device:
        outputs = (check if compare else run)(case, **options)
    assert len(device.launches) == 1
    return outputs


def first(C: int, dtype: torch.dtype, **options: Any) -> ResidualConvDesc:
    return ResidualConvDesc(C, C, K, DILATIONS, dtype, slope=0.1, **options)


def second(C: int, dtype: torch.dtype, **options: Any) -> ResidualConvDesc:
    options = {"residual": True, "stream": True, "slope": 0.1, **options}
    return ResidualConvDesc(C, C, K, (1, 1, 1), dtype, **options)


def last(C: int, dtype: torch.dtype, **options: Any) -> ResidualConvDesc:
    options = {"residual": True, "mean": True, "slope": 0.1, **options}
    return ResidualConvDesc(C, C, K, (1, 1, 1), dtype, **options)


def mean_up(C_in: int, kernel: int, stride: int, padding: int, dtype: torch.dtype) -> UpsampleDesc:
    return UpsampleDesc(
        C_in, C_in // 2, kernel, stride, padding, dtype, 3, 0.1, 0.1, activated=True
    )


LAYERS = {
    "v4-head": Case("head", HeadDesc(100, 512, 7, F16, slope=0.1), 37, RAGGED),
    "v2-head": Case(
        "head", HeadDesc(192, 512, 7, BF16, cond=True, C_cond=256, slope=0.1), 37, RAGGED
    ),
    "v4-up0": Case("upsample", UpsampleDesc(512, 256, 20, 10, 5, F16), 9, ((2, 9),)),
    "v2-up1": Case("upsample", mean_up(256, 16, 8, 4, BF16), 19, ((1, 1), (2, 19))),
    "v2-up2": Case("upsample", mean_up(128, 8, 2, 3, F16), 37, RAGGED),
    "v2-up4": Case("upsample", mean_up(32, 2, 2, 0, F32), 37, RAGGED),
    "C256-first": Case("residual_conv", first(256, F16), 37, ((0, 3), (4, 37))),
    "C128-second": Case("residual_conv", second(128, BF16), 37, RAGGED),
    "C128-compact": Case(
        "residual_conv",
        second(128, F16, residual_slope=0.1, stream=False),
        37,
        RAGGED,
    ),
    "C256-last": Case("residual_conv", last(256, F16, residual_slope=0.1), 37, ((0, 3), (4, 37))),
    "C192-last": Case("residual_conv", last(192, BF16, slope=1.0), 37, RAGGED),
    "C24-last": Case("residual_conv", last(24, F16, stream=True), 37, RAGGED),
    "C96-second": Case("residual_conv", second(96, F16), 37, RAGGED),
    "C64-first": Case("residual_conv", first(64, F32), 37, ((3, 37),)),
    "C24-first": Case("residual_conv", first(24, F16), 37, RAGGED),
    "C384-snake": Case("alias_free", AliasFreeDesc(384, 1, F16, F16), 37, ((2, 37),)),
    "C24-snake": Case("alias_free", AliasFreeDesc(24, 3, F32, BF16), 37, RAGGED),
    "v4-tail": Case("tail", TailDesc(16, 7, 3, F32, 0.01, True), 300, ((0, 300), (9, 9))),
    "v3-tail": Case("tail", TailDesc(24, 7, 1, F16, end="clamp"), 150, ((0, 1), (9, 140))),
}  # fmt: skip


@pytest.mark.parametrize("arch", (80, 90))
@pytest.mark.parametrize("name", LAYERS)
def test_layers(gpusim, name, arch):
    emulate(gpusim, arch, LAYERS[name])


@pytest.mark.parametrize("precision", ("ieee", "tf32"))
def test_float32(gpusim, precision):
    desc = ResidualConvDesc(64, 64, (3,), (3,), F32, stream=True, precision=precision)
    emulate(gpusim, 80, Case("residual_conv", desc, 37, ((1, 37),)))


SMALL = {
    "head": Case("head", HeadDesc(20, 32, 3, F16), 20, ((1, 20),)),
    "up": Case("upsample", mean_up(32, 4, 2, 1, F16), 20, ((1, 20),)),
    "conv": Case(
        "residual_conv", ResidualConvDesc(32, 32, (3,), (1,), F16, residual=True), 20, ((1, 20),)
    ),
    "snake": Case("alias_free", AliasFreeDesc(16, 1, F16, F16), 20, ((1, 20),)),
    "tail": Case("tail", TailDesc(8, 7, 1, F32), 40, ((1, 40),)),
}


@pytest.mark.parametrize("arch", (75, 86, 89))
@pytest.mark.parametrize("name", SMALL)
def test_other_architectures(gpusim, name, arch):
    emulate(gpusim, arch, SMALL[name])


def same_bits(these: list[Output], others: list[Output]) -> None:
    for one, other in zip(these, others):
        assert torch.equal(one.got, other.got), f"{one.name} depends on the tile"


TILES = (
    TileConfig(32, 32, 64, num_stages=4),
    TileConfig(32, 64, 32),
    TileConfig(64, 64, 64),
    TileConfig(64, 128, 32),
    TileConfig(64, 128, 32, num_warps=8, num_stages=1),
    TileConfig(128, 128, 32),
)
WHOLE = ((1, 69),)
PRODUCTS = {
    "conv": Case(
        "residual_conv",
        ResidualConvDesc(128, 128, (7,), (3,), F16, residual=True, stream=True),
        69,
        WHOLE,
    ),
    "mean": Case("residual_conv", last(128, F16, residual_slope=0.1), 69, WHOLE),
    "narrow conv": Case(
        "residual_conv", ResidualConvDesc(48, 48, (5,), (3,), F16, stream=True), 69, WHOLE
    ),
    "up": Case("upsample", mean_up(64, 8, 2, 3, F16), 69, WHOLE),
    "head": Case("head", HeadDesc(36, 64, 7, F16, cond=True, C_cond=72), 69, WHOLE),
}


@pytest.mark.parametrize("arch, tiles", [(80, TILES), (90, TILES[2:])], ids=("80", "90"))
@pytest.mark.parametrize("name", PRODUCTS)
def test_bits_do_not_depend_on_the_tile(gpusim, name, arch, tiles):
    results = [
        emulate(gpusim, arch, replace(PRODUCTS[name], config=tile), compare=False) for tile in tiles
    ]
    for result in results[1:]:
        same_bits(results[0], result)


def test_bits_of_float32_do_not_depend_on_the_tile(gpusim):
    case = Case("residual_conv", ResidualConvDesc(48, 32, (3,), (1,), F32, stream=True), 69, WHOLE)
    tiles = (TileConfig(32, 32, 16), TileConfig(64, 64, 16, num_stages=2))
    for precision in ("ieee", "tf32"):
        same = replace(case, desc=replace(case.desc, precision=precision))
        one, other = [emulate(gpusim, 80, replace(same, config=t), compare=False) for t in tiles]
        same_bits(one, other)


def test_bits_of_snakes_do_not_depend_on_the_walk(gpusim):
    case = Case("alias_free", AliasFreeDesc(16, 1, F32, F32), 69, WHOLE)
    walks = (AliasFreeConfig(16, 8, 16), AliasFreeConfig(8, 16, 64))
    one, other = [emulate(gpusim, 80, replace(case, config=w), compare=False) for w in walks]
    same_bits(one, other)


PLACES = ((0, 21), (13, 34), (33, 54), (35, 56))
PLACED = {
    "conv": Case("residual_conv", first(32, F16, scale=2, extra=1, stream=True), 57, PLACES),
    "up": Case("upsample", mean_up(32, 8, 2, 3, F16), 57, PLACES),
    "head": Case("head", HeadDesc(20, 32, 7, F16, cond=True, C_cond=40), 57, PLACES),
    "snake": Case("alias_free", AliasFreeDesc(16, 2, F32, F16, scale=2, extra=1), 57, PLACES),
    "tail": Case("tail", TailDesc(8, 7, 3, F32, scale=4), 57, PLACES),
}


@pytest.mark.parametrize("arch", (80, 90))
@pytest.mark.parametrize("name", PLACED)
def test_bits_do_not_depend_on_place_and_row(gpusim, name, arch):
    for output in emulate(gpusim, arch, replace(PLACED[name], alike=True)):
        rows = output.rows()
        assert rows[0].numel()
        for row in rows[1:]:
            assert torch.equal(row, rows[0]), f"{output.name} depends on its place"
