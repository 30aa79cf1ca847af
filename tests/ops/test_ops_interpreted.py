"""Every GPU operation in Triton's interpreter against its float64 reference: runs anywhere."""

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
F16, F32 = torch.float16, torch.float32
TILE = TileConfig(32, 32, 32)
RAGGED = ((0, 1), (3, 20), (0, 31), (5, 7), (1, 29))


def conv(C_in, C_out, K, dilation, dtype=F32, **options):
    return ResidualConvDesc(C_in, C_out, K, dilation, dtype, **options)


CONVS = [
    Case("residual_conv", conv(24, 24, (11, 7, 3), (1, 1, 1), residual=True, stream=True), 31, RAGGED, TILE),
    Case("residual_conv", conv(64, 64, (3,), (5,), F16, slope=0.1, scale=3), 31, RAGGED, TILE),
    Case(
        "residual_conv",
        conv(48, 48, (7, 3), (3, 5), F16, bias=False, stream=True, activated=False, scale=2, extra=1),
        31, RAGGED, TILE,
    ),
    Case("residual_conv", conv(13, 7, (5, 5, 1, 9), (1, 2, 1, 3), extra=-1), 31, RAGGED[1:], TILE),
    Case("residual_conv", conv(96, 96, (3, 3, 3), (1, 3, 5), F16, residual=True, slope=0.1), 31, RAGGED),
]  # fmt: skip


# A vector per row, whatever the number of frames: how the speaker's condition is computed.
CONVS.append(
    Case(
        "residual_conv",
        conv(70, 40, (1,), (1,), F16, stream=True, activated=False, scale=0, extra=1),
        31, RAGGED, TILE,
    )
)  # fmt: skip


@pytest.mark.parametrize("case", CONVS, ids=str)
def test_residual_conv(case):
    check(case)


def up(C_in, C_out, K, stride, padding, dtype=F32, **options):
    return UpsampleDesc(C_in, C_out, K, stride, padding, dtype, **options)


UPS = [
    Case("upsample", up(32, 16, 20, 10, 5, F16, activated=True, slope_out=0.1), 31, RAGGED, TILE),
    Case("upsample", up(24, 12, 16, 10, 3, inputs=3, slope_in=0.1), 31, RAGGED, TILE),
    Case("upsample", up(64, 32, 8, 2, 3, F16, inputs=2, slope_in=0.1, scale=3), 31, RAGGED, TILE),
    Case("upsample", up(32, 16, 2, 2, 0, scale=2, extra=1, inputs=1), 31, RAGGED, TILE),
    Case("upsample", up(10, 5, 3, 5, 0, bias=False), 31, RAGGED, TILE),
    Case("upsample", up(16, 8, 7, 4, 1, stream=False, activated=True), 31, RAGGED, TILE),
    Case("upsample", up(16, 9, 11, 4, 3, scale=4, extra=-2), 31, RAGGED[1:]),
]


@pytest.mark.parametrize("case", UPS, ids=str)
def test_upsample(case):
    check(case)


HEADS = [
    (Case("head", HeadDesc(100, 40, 7, F16, cond=True, slope=0.1), 31, RAGGED, TILE), F32, False),
    (Case("head", HeadDesc(19, 24, 7, F32), 31, RAGGED, TILE), F32, True),
    (Case("head", HeadDesc(64, 32, 3, F32, dilation=2, bias=False), 31, RAGGED), F16, False),
]


@pytest.mark.parametrize("case, caller_dtype, transposed", HEADS, ids=str)
def test_head(case, caller_dtype, transposed):
    check(case, caller_dtype=caller_dtype, transposed=transposed)


SNAKES = [
    Case("alias_free", AliasFreeDesc(8, 3, F32, F32, scale=2, extra=1), 31, RAGGED, AliasFreeConfig(8, 2, 4)),
    Case("alias_free", AliasFreeDesc(24, 1, F16, F16), 31, RAGGED, AliasFreeConfig(8, 1, 16)),
    Case("alias_free", AliasFreeDesc(21, 2, F32, F16, scale=3), 31, RAGGED),
    Case("alias_free", AliasFreeDesc(8, 1, F32, F16, scale=2, mean=3), 31, RAGGED, AliasFreeConfig(8, 2, 4)),
    Case("alias_free", AliasFreeDesc(16, 1, F32, F32), 17, ((0, 1), (0, 2), (1, 4), (3, 7), (6, 11), (0, 17))),
]


@pytest.mark.parametrize("case", SNAKES, ids=str)
def test_alias_free(case):
    check(case)


TAILS = [
    (Case("tail", TailDesc(16, 7, 3, F32, slope=0.01, bias=True), 400, ((0, 1), (2, 400), (7, 135))), F32),
    (Case("tail", TailDesc(24, 7, 1, F16, end="clamp", scale=4, extra=2), 31, RAGGED), F16),
    (Case("tail", TailDesc(11, 5, 2, F32, slope=0.1), 31, RAGGED), F32),
]


@pytest.mark.parametrize("case, caller_dtype", TAILS, ids=str)
def test_tail(case, caller_dtype):
    check(case, caller_dtype=caller_dtype)
