"""Every step in one sequence: whole vocoders against float64."""

from __future__ import annotations

import copy

import pytest
import torch
from native.lowered import Lowered
from reference.configs import CONFIGS

from vocoder_kernels.families import describe, extract
from vocoder_kernels.modules.bigvgan import BigVGAN
from vocoder_kernels.modules.hifigan import Generator
from vocoder_kernels.modules.presets import randomise_


def vocoder_of(name: str) -> torch.nn.Module:
    config = CONFIGS[name]
    module = BigVGAN(**config) if "num_mels" in config else Generator(**config)
    return randomise_(module).eval()


def lowered(isa: str, module: torch.nn.Module, **settings) -> Lowered:
    vocoder = describe(module)
    return Lowered(isa, vocoder, dict(extract(module, vocoder)), **settings)


def inputs(vocoder, T: int):
    x = torch.randn(vocoder.head.C_in, T)
    g = torch.randn(vocoder.cond.C_in) if vocoder.cond else None
    return x, g


def reference(module, x, g):
    exact = copy.deepcopy(module).double()
    if g is None:
        return module(x[None])[0, 0], exact(x[None].double())[0, 0]
    g = g[None, :, None]
    return module(x[None], g=g)[0, 0], exact(x[None].double(), g=g.double())[0, 0]


def assert_within_contract(ours, eager, exact):
    error = (ours.double() - exact).abs().max().item()
    assert error <= 1e-5 * max(1.0, exact.abs().max().item())
    rms = (ours.double() - exact).square().mean().sqrt().item()
    assert rms <= 2 * (eager.double() - exact).square().mean().sqrt().item() + 2e-6


@pytest.mark.parametrize("name", sorted(CONFIGS))
@pytest.mark.parametrize("T", [1, 2, 13, 90])
@torch.no_grad()
def test_whole_vocoder(isa, name, T):
    module = vocoder_of(name)
    for settings in ({}, {"chunk_rows": 32}, {"algorithm": 1}):
        native_vocoder = lowered(isa, module, **settings)
        x, g = inputs(native_vocoder.vocoder, T)
        assert_within_contract(native_vocoder(x, g), *reference(module, x, g))


@pytest.mark.parametrize("name", ["hifigan", "bigvgan"])
@pytest.mark.parametrize("chunk_rows", [0, 48])
@torch.no_grad()
def test_any_number_of_threads_gives_the_same_bits(isa, name, chunk_rows):
    vocoder = lowered(isa, vocoder_of(name), chunk_rows=chunk_rows)
    for T in (3, 120):
        x, g = inputs(vocoder.vocoder, T)
        alone = vocoder(x, g)
        assert torch.equal(vocoder(x, g), alone)
        for threads in (2, 3, 7):
            assert torch.equal(vocoder(x, g, threads=threads), alone)
