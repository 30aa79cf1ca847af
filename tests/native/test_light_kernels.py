"""Head, upsampling, anti-aliased snake and tail against float64."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from native.native_ops import (
    assert_as_exact_as,
    conv_weights,
    leaky,
    run_head,
    run_snake,
    run_tail,
    run_upsample,
    upsample_weights,
)
from torch.nn import functional as F

from vocoder_kernels import native
from vocoder_kernels.modules.bigvgan import Activation1d, SnakeBeta, kaiser_sinc_filter

UPSAMPLES = [
    # C_in, C_out, K, stride, T
    (512, 256, 16, 10, 7),
    (512, 256, 20, 10, 31),
    (768, 384, 20, 10, 5),
    (256, 128, 12, 6, 130),
    (128, 64, 4, 2, 257),
    (32, 16, 2, 2, 500),
    (64, 32, 4, 2, 1),
    (24, 12, 8, 4, 300),
    (10, 5, 3, 5, 40),
    (16, 8, 5, 2, 9),
]


@pytest.mark.parametrize("C_in,C_out,K,stride,T", UPSAMPLES)
def test_upsample(isa, C_in, C_out, K, stride, T):
    w, bias = upsample_weights(C_in, C_out, K, stride)
    x = torch.randn(C_in, T)
    padding = max(0, (K - stride) // 2)
    raw, act = run_upsample(isa, x, w, bias, stride, padding)
    eager = F.conv_transpose1d(x, w, bias, stride=stride, padding=padding)
    exact = F.conv_transpose1d(
        x.double(), w.double(), bias.double(), stride=stride, padding=padding
    )
    assert_as_exact_as(raw, eager, exact)
    assert_as_exact_as(act, leaky(eager, 0.1), leaky(exact, 0.1))


@given(
    C_in=st.integers(1, 40),
    C_out=st.integers(1, 40),
    K=st.integers(1, 13),
    stride=st.integers(1, 7),
    padding=st.integers(0, 6),
    T=st.integers(1, 250),
    threads=st.integers(1, 3),
)
def test_any_upsample(C_in, C_out, K, stride, padding, T, threads):
    if (T - 1) * stride - 2 * padding + K < 1:
        return
    w, bias = upsample_weights(C_in, C_out, K, stride)
    x = torch.randn(C_in, T)

    def reference(x, w, bias):
        return F.conv_transpose1d(x, w, bias, stride=stride, padding=padding)

    eager, exact = reference(x, w, bias), reference(x.double(), w.double(), bias.double())
    scale = reference(x.abs(), w.abs(), bias.abs()).max().item()
    for isa in native.isas():
        raw, _ = run_upsample(isa, x, w, bias, stride, padding, threads=threads)
        assert_as_exact_as(raw, eager, exact, scale=scale)


@pytest.mark.parametrize(
    "C_in,C_out,T", [(192, 512, 50), (100, 1536, 9), (100, 512, 1), (5, 24, 210)]
)
@pytest.mark.parametrize("strided", [False, True])
def test_head(isa, C_in, C_out, T, strided):
    w, bias = conv_weights(C_out, C_in, 7)
    cond = torch.randn(C_out)
    x = torch.randn(T, C_in).t() if strided else torch.randn(C_in, T)
    raw, act = run_head(isa, x, w, bias, cond)

    def reference(x, w, bias, cond):
        return F.conv1d(x[None], w, bias, padding=3)[0] + cond[:, None]

    eager = reference(x.contiguous(), w, bias, cond)
    exact = reference(x.double(), w.double(), bias.double(), cond.double())
    assert_as_exact_as(raw, eager, exact)
    assert_as_exact_as(act, leaky(eager, 0.1), leaky(exact, 0.1))
    plain, _ = run_head(isa, x, w, bias)
    assert_as_exact_as(plain, eager - cond[:, None], exact - cond.double()[:, None])


def activation(C: int, scale: float = 1.0) -> Activation1d:
    act = Activation1d(SnakeBeta(C, alpha_logscale=True))
    with torch.no_grad():
        act.act.alpha.copy_(0.5 * torch.randn(C) + torch.tensor(scale).log())
        act.act.beta.copy_(0.5 * torch.randn(C))
    return act


def snake_arguments(act: Activation1d):
    alpha = act.act.alpha.detach().exp()
    inv_beta = 1 / (act.act.beta.detach().exp() + 1e-9)
    up, down = act.upsample.filter.flatten(), act.downsample.lowpass.filter.flatten()
    return alpha, inv_beta, up, down


@pytest.mark.parametrize("C,T", [(16, 1), (16, 2), (24, 5), (3, 6), (48, 7), (16, 95), (40, 1000)])
@torch.no_grad()
def test_snake(isa, C, T):
    act, x = activation(C), 3 * torch.randn(C, T)
    ours = run_snake(isa, x, *snake_arguments(act))
    eager = act(x[None])[0]
    exact = act.double()(x[None].double())[0]
    assert_as_exact_as(ours, eager, exact)
    for edge in (slice(0, 8), slice(-8, None)):
        assert_as_exact_as(ours[:, edge], eager[:, edge], exact[:, edge])


@torch.no_grad()
def test_snake_of_large_arguments(isa):
    """sin of up to 2e4, where a short reduction of the argument would be all error."""
    C, T = 16, 500
    act, x = activation(C, scale=200.0), 100 * torch.rand(C, T)
    alpha, _, up, down = snake_arguments(act)
    alpha.clamp_(max=200.0)
    act.act.alpha.copy_(alpha.log())
    alpha, inv_beta, up, down = snake_arguments(act)
    ours = run_snake(isa, x, alpha, inv_beta, up, down)
    eager, exact = act(x[None])[0], act.double()(x[None].double())[0]
    assert_as_exact_as(ours, eager, exact)


def test_sine_of_the_same_product(isa):
    """With a one-tap filter the sine alone is left: of the rounded product, as eager takes it."""
    C, T = 16, 4000
    x = torch.linspace(-1e4, 1e4, C * T).view(C, T)
    up, down = torch.zeros(12), torch.zeros(12)
    up[5], down[5] = 0.5, 1.0  # x[2t] = x[t], y[t] = a[2t]
    alpha, inv_beta = torch.ones(C), torch.ones(C)
    ours = run_snake(isa, torch.zeros(C, T) + x, alpha, inv_beta, up, down)
    exact = x.double() + x.double().sin().square()
    assert ((ours.double() - exact).abs() <= 2**-23 + 2**-24 * exact.abs()).all()


def test_snake_of_a_constant_is_a_constant():
    up = down = kaiser_sinc_filter(0.25, 0.3, 12).flatten()
    for isa in native.isas():
        x = torch.full((16, 50), 0.7)
        y = run_snake(isa, x, torch.ones(16), torch.ones(16), up, down)
        assert (y - y[:, :1]).abs().max() < 1e-6


@pytest.mark.parametrize(
    "C,K,T", [(16, 7, 3000), (24, 7, 5), (32, 7, 1), (5, 3, 100), (16, 11, 33)]
)
@pytest.mark.parametrize("clamp", [False, True])
def test_tail(isa, C, K, T, clamp):
    w, _ = conv_weights(1, C, K)
    x = torch.randn(C, T)
    ours = run_tail(isa, x, 2 * w, 0.3, clamp)

    def reference(x, w):
        y = F.conv1d(x[None], 2 * w, padding=K // 2)[0, 0] + 0.3
        return y.clamp(-1, 1) if clamp else y.tanh()

    assert_as_exact_as(ours, reference(x, w), reference(x.double(), w.double()))


def test_nan_stays_where_it_is(isa):
    x = torch.randn(16, 100)
    x[3, 50] = float("nan")
    w, _ = conv_weights(1, 16, 7)
    for clamp in (False, True):
        out = run_tail(isa, x, w, 0.0, clamp)
        assert out.isnan().nonzero().flatten().tolist() == list(range(47, 54))
    act = activation(16)
    y = run_snake(isa, x, *snake_arguments(act))
    assert y[:3].isfinite().all() and y[4:].isfinite().all()
    assert y[3, :44].isfinite().all() and y[3, 57:].isfinite().all() and y[3, 50].isnan()


@pytest.mark.parametrize("threads", [2, 3, 8])
def test_any_number_of_threads_gives_the_same_bits(isa, threads):
    for C_in, C_out, K, stride, T in ((64, 32, 4, 2, 900), (128, 96, 16, 8, 150)):
        w, bias = upsample_weights(C_in, C_out, K, stride)
        x = torch.randn(C_in, T)
        one = run_upsample(isa, x, w, bias, stride, (K - stride) // 2)
        many = run_upsample(isa, x, w, bias, stride, (K - stride) // 2, threads=threads)
        assert all(torch.equal(a, b) for a, b in zip(one, many))
    w, bias = conv_weights(64, 20, 7)
    x = torch.randn(20, 300)
    assert torch.equal(run_head(isa, x, w, bias)[0], run_head(isa, x, w, bias, threads=threads)[0])
    x = torch.randn(40, 3000)
    snake = snake_arguments(activation(40))
    assert torch.equal(run_snake(isa, x, *snake), run_snake(isa, x, *snake, threads=threads))
    w, _ = conv_weights(1, 40, 7)
    assert torch.equal(run_tail(isa, x, w), run_tail(isa, x, w, threads=threads))


def test_bits_do_not_depend_on_the_length(isa):
    w, bias = upsample_weights(96, 48, 8, 4)
    x = torch.randn(96, 400)
    whole, _ = run_upsample(isa, x, w, bias, 4, 2)
    part, _ = run_upsample(isa, x[:, 50:301].contiguous(), w, bias, 4, 2)
    assert torch.equal(part[:, 8:-8], whole[:, 4 * 50 + 8 : 4 * 301 - 8])
