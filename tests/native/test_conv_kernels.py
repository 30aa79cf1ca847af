"""Every convolution algorithm against float64: shapes, edges, epilogue, threads, values."""

from __future__ import annotations

import pytest
import torch
from native.native_ops import Pool, pointer
from torch.nn import functional as F

from vocoder_kernels import native
from vocoder_kernels.native import NO_SLOT

# C_in, C_out, K, dilation, T; 300 rows and more let wide layers choose a transform.
SHAPES = [
    (16, 16, 3, 1, 1000),
    (32, 32, 7, 3, 500),
    (20, 20, 5, 2, 77),
    (64, 64, 11, 5, 1201),
    (256, 256, 7, 1, 300),
    (192, 200, 11, 5, 333),
    (24, 24, 3, 3, 5),
    (48, 40, 9, 1, 1),
    (8, 100, 1, 1, 40),
    (33, 17, 15, 4, 90),
    (16, 16, 11, 3, 4),
    (17, 5, 31, 2, 64),
]
ALGORITHMS = [0, 1, 4, 6, 8, 16, 32]  # 4 and 6 serve K = 3 alone, others choose for themselves


class Conv:
    def __init__(self, isa, C_in, C_out, K, dilation, T, algorithm, **slots):
        self.w = torch.randn(C_out, C_in, K) / (C_in * K) ** 0.5
        self.bias = torch.randn(C_out)
        self.padding, self.dilation, self.T = dilation * (K - 1) // 2, dilation, T
        self.sequence = native.sequence(isa)
        arguments = dict(x=0, residual=1, addend=NO_SLOT, scale=1.0, raw=2, act=3, slope=0.1)
        arguments.update(slots)
        self.sequence.add_conv(
            **arguments,
            C_in=C_in,
            C_out=C_out,
            K=K,
            dilation=dilation,
            w=pointer(self.w),
            bias=pointer(self.bias),
            algorithm=algorithm,
        )
        self.pool = Pool(isa, [(C_in, T)] + [(C_out, T)] * 4)
        self.inputs = [torch.randn(C_in, T), torch.randn(C_out, T), torch.randn(C_out, T)]

    def run(self, threads=1):
        for slot, x in zip((0, 1, 4), self.inputs):
            self.pool.put(slot, x)
        self.pool.run(self.sequence, self.T, threads=threads)
        self.pool.check_guards()
        return self.pool.view(2).clone(), self.pool.view(3).clone()

    def conv(self, dtype):
        x, w, bias = self.inputs[0].to(dtype), self.w.to(dtype), self.bias.to(dtype)
        return F.conv1d(x[None], w, bias, padding=self.padding, dilation=self.dilation)[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_algorithm(isa, shape, algorithm):
    conv = Conv(isa, *shape, algorithm)
    conv.run()
    exact = conv.conv(torch.float64) + conv.inputs[1]
    assert (conv.pool.get(2) - exact).abs().max() < 1e-5
    assert (conv.pool.get(3) - F.leaky_relu(exact, 0.1)).abs().max() < 1e-5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("C", [32, 200, 272])
def test_any_number_of_threads_gives_the_same_bits(isa, C, algorithm):
    conv = Conv(isa, C, C, 7, 3, 700, algorithm)
    raw, act = conv.run()
    for threads in (2, 3, 5):
        again = conv.run(threads)
        assert torch.equal(again[0], raw) and torch.equal(again[1], act)


@pytest.mark.parametrize("algorithm", [0, 1, 16])
def test_addend_and_scale(isa, algorithm):
    conv = Conv(isa, 32, 32, 7, 1, 100, algorithm, addend=4, scale=1 / 3)
    conv.run()
    exact = (conv.conv(torch.float64) + conv.inputs[1] + conv.inputs[2]) / 3
    assert (conv.pool.get(2) - exact).abs().max() < 1e-5


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_not_a_number_stays_within_its_tiles(isa, algorithm):
    conv = Conv(isa, 32, 32, 3, 1, 400, algorithm)
    conv.inputs[0][5, 200] = float("nan")
    raw, _ = conv.run()
    rows = torch.isnan(raw).any(0).any(1).nonzero().flatten()
    reach = 1 if algorithm == 1 else 34
    assert 200 in rows and rows.min() >= 200 - reach and rows.max() <= 200 + reach


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_quiet_next_to_loud(isa, algorithm):
    """Errors scale with the largest value of a tile, and with no value outside it."""
    conv = Conv(isa, 64, 64, 3, 1, 400, algorithm)
    conv.inputs[0][:, :200] *= 1e-4
    conv.inputs[1].zero_()
    conv.run()
    error = (conv.pool.get(2) - conv.conv(torch.float64)).abs()
    assert error.max() < 1e-5
    assert error[:, :160].max() < 1e-6
