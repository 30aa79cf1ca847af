"""Every GPU operation in Triton's interpreter against its float64 reference: runs anywhere.

The interpreter multiplies the bit patterns of bfloat16 matrices and truncates on conversion to it:
products in bfloat16 are tested on the emulator alone.
"""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from op_cases import Case, check  # noqa: E402

from vocoder_kernels.ops.alias_free import AliasFreeDesc  # noqa: E402
from vocoder_kernels.ops.alias_free.launch import AliasFreeConfig  # noqa: E402
from vocoder_kernels.ops.head import HeadDesc  # noqa: E402
from vocoder_kernels.ops.residual_conv import ResidualConvDesc  # noqa: E402
from vocoder_kernels.ops.tail import TailDesc  # noqa: E402
from vocoder_kernels.ops.tile import TileConfig  # noqa: E402
from vocoder_kernels.ops.upsample import UpsampleDesc  # noqa: E402

pytestmark = pytest.mark.interpreter
F16, BF16, F32 = torch.float16, torch.bfloat16, torch.float32
TILE = TileConfig(32, 32, 32)
RAGGED = ((0, 1), (3, 20), (4, 4), (0, 31), (5, 7))
SHORT = ((5, 5), (2, 12))


def conv(C_in, C_out, K, dilation, dtype=F32, **options):
    return ResidualConvDesc(C_in, C_out, K, dilation, dtype, **options)


def conv_case(desc, config=TILE, ranges=RAGGED, frames=31):
    return Case("residual_conv", desc, frames, ranges, config)


CONVS = [
    conv_case(conv(24, 24, (11, 7, 3), (1, 1, 1), residual=True, stream=True)),
    conv_case(conv(64, 64, (3,), (5,), F16, slope=0.1, scale=3)),
    conv_case(
        conv(
            48, 48, (7, 3), (3, 5), F16, bias=False, stream=True, activated=False, scale=2, extra=1
        )
    ),
    conv_case(conv(13, 7, (5, 5, 1, 9), (1, 2, 1, 3), extra=-1)),
    conv_case(conv(96, 96, (3, 3, 3), (1, 3, 5), F16, residual=True, slope=0.1), None),
    conv_case(conv(64, 64, (1,), (1,), F32, precision="tf32"), TileConfig(64, 64, 16)),
    conv_case(
        conv(64, 64, (11, 7, 3), (5, 3, 1), F16, residual=True, residual_slope=0.1, slope=0.1)
    ),
    conv_case(
        conv(32, 32, (11, 7, 3), (1, 1, 1), F16, residual=True, residual_slope=0.1, mean=True)
    ),
    conv_case(
        conv(
            24, 24, (3, 7), (5, 1), residual=True, stream=True, activated=False, mean=True, scale=2
        )
    ),
    conv_case(conv(128, 128, (5, 1, 3, 7), (1, 2, 3, 1), mean=True), TileConfig(64, 128, 32)),
]


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_residual_conv(case):
    check(case)


REAL_STAGES = [(768, (3,), F16), (384, (3,), F32), (256, (7,), F16), (128, (11, 7, 3), F32)]


@pytest.mark.parametrize("C, K, dtype", REAL_STAGES, ids=str)
def test_residual_conv_of_real_stages(C, K, dtype):
    options = {"residual": True, "stream": True, "slope": 0.1}
    desc = conv(C, C, K, (5, 3, 1)[: len(K)], dtype, **options)
    check(conv_case(desc, TileConfig(16, 128, 128), SHORT, 12))


def up(C_in, C_out, K, stride, padding, dtype=F32, **options):
    return UpsampleDesc(C_in, C_out, K, stride, padding, dtype, **options)


def up_case(desc, config=TILE, ranges=RAGGED, frames=31):
    return Case("upsample", desc, frames, ranges, config)


UPS = [
    up_case(up(32, 16, 20, 10, 5, F16, activated=True, slope_out=0.1)),
    up_case(up(24, 12, 16, 10, 3, inputs=3, slope_in=0.1)),
    up_case(up(64, 32, 8, 2, 3, F16, inputs=2, slope_in=0.1, scale=3)),
    up_case(up(32, 16, 2, 2, 0, scale=2, extra=1, inputs=1)),
    up_case(up(10, 5, 3, 5, 0, bias=False)),
    up_case(up(16, 8, 7, 4, 1, stream=False, activated=True)),
    up_case(up(16, 9, 11, 4, 3, scale=4, extra=-2), None),
]


@pytest.mark.parametrize("case", UPS, ids=str)
def test_upsample(case):
    check(case)


REAL_UPS = {
    "v4 first": up(512, 256, 20, 10, 5, F16, stream=False, activated=True),
    "v2 second": up(256, 128, 16, 8, 4, F32, inputs=3, slope_in=0.1),
    "v2 last": up(32, 16, 2, 2, 0, F16, inputs=3, slope_in=0.1, slope_out=0.1, activated=True),
}


@pytest.mark.parametrize("name", REAL_UPS)
def test_upsample_of_real_stages(name):
    check(up_case(REAL_UPS[name], TileConfig(16, 128, 128), SHORT, 12))


HEADS = [
    (Case("head", HeadDesc(100, 40, 7, F16, cond=True, slope=0.1), 31, RAGGED, TILE), F32, False),
    (Case("head", HeadDesc(19, 24, 7, F32), 31, RAGGED, TILE), F32, True),
    (Case("head", HeadDesc(19, 40, 7, F16, cond=True, C_cond=75), 31, RAGGED, TILE), F32, False),
    (
        Case("head", HeadDesc(9, 24, 3, F32, bias=False, cond=True, C_cond=128), 31, RAGGED),
        F32,
        True,
    ),
    (Case("head", HeadDesc(64, 32, 3, F32, dilation=2, bias=False), 31, RAGGED), F16, False),
    (
        Case("head", HeadDesc(192, 512, 7, F16, cond=True), 12, SHORT, TileConfig(16, 128, 128)),
        BF16,
        True,
    ),
]


@pytest.mark.parametrize("case, caller_dtype, transposed", HEADS, ids=str)
def test_head(case, caller_dtype, transposed):
    check(case, caller_dtype=caller_dtype, transposed=transposed)


def snake_case(desc, config=None, ranges=RAGGED, frames=31):
    return Case("alias_free", desc, frames, ranges, config)


EDGES = ((0, 1), (0, 2), (1, 4), (3, 7), (6, 11), (0, 17))
SNAKES = [
    snake_case(AliasFreeDesc(8, 3, F32, F32, scale=2, extra=1), AliasFreeConfig(8, 8, 8)),
    snake_case(AliasFreeDesc(24, 1, F16, F16), AliasFreeConfig(8, 1, 16)),
    snake_case(AliasFreeDesc(21, 2, F32, BF16, scale=3), AliasFreeConfig(32, 4, 16)),
    snake_case(AliasFreeDesc(8, 1, F32, F16, scale=2, mean=3), AliasFreeConfig(8, 8, 8)),
    snake_case(AliasFreeDesc(16, 1, F32, F32), None, EDGES, 17),
    snake_case(AliasFreeDesc(384, 1, BF16, BF16), None, SHORT, 12),
]


@pytest.mark.parametrize("case", SNAKES, ids=str)
def test_alias_free(case):
    check(case)


LONG = ((0, 1), (2, 400), (7, 135), (30, 30))
TAILS = [
    (Case("tail", TailDesc(16, 7, 3, F32, slope=0.01, bias=True), 400, LONG), F32),
    (Case("tail", TailDesc(24, 7, 1, F16, end="clamp", scale=4, extra=2), 31, RAGGED), F16),
    (Case("tail", TailDesc(24, 7, 1, BF16, end="clamp", scale=4), 31, RAGGED), BF16),
    (Case("tail", TailDesc(11, 5, 2, F32, slope=0.1), 31, RAGGED), F32),
]


@pytest.mark.parametrize("case, caller_dtype", TAILS, ids=str)
def test_tail(case, caller_dtype):
    check(case, caller_dtype=caller_dtype)
