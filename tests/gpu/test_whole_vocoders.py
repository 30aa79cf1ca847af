"""Whole vocoders against float64: at most twice eager's error in the same dtype."""

from __future__ import annotations

import pytest
import torch
from reference import CONFIGS
from vocoders import BRIEF, assert_contract, case

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
TF32_ULP = 2.0**-10


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", ("hifigan", "bigvgan"))
def test_every_dtype(name, dtype):
    if dtype == torch.bfloat16 and torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("bfloat16 kernels need compute capability 8.0")
    c = case(name, dtype, frames=13, batch=2, norm="old")
    assert_contract(c.engine()(*c.args), c.eager(), c.exact())


@pytest.mark.parametrize("name", sorted(set(CONFIGS) - {"hifigan", "bigvgan"}))
def test_every_structure(name):
    c = case(name, torch.float16, frames=7)
    assert_contract(c.engine()(*c.args), c.eager(), c.exact())


@pytest.mark.parametrize("frames", (1, 2, 31, 32, 33, 97))
def test_edge_lengths(frames):
    """Shorter than the halo, and around the sizes of graphs."""
    c = case("hifigan", torch.float16, frames)
    assert_contract(c.engine(chunk_frames=64)(*c.args), c.eager(), c.exact())


@pytest.mark.parametrize("version", ("v2", "v2proplus", "v4", "v3"))
def test_real_width(version):
    c = case(version, torch.float16, frames=2)
    assert_contract(c.engine()(*c.args), c.eager(), c.exact())


def test_tf32_follows_pytorchs_switch():
    c = case("hifigan", torch.float32, frames=9)
    engine = c.engine()
    ieee = engine(*c.args)
    torch.backends.cudnn.allow_tf32 = True
    tf32 = engine(*c.args)
    torch.backends.cudnn.allow_tf32 = False
    assert torch.equal(engine(*c.args), ieee)
    if torch.cuda.get_device_capability() >= (8, 0):
        assert not torch.equal(tf32, ieee)
    exact = c.exact()
    assert (tf32.cpu().double() - exact).abs().max() <= 4 * TF32_ULP * exact.abs().max()


def test_condition_may_be_left_out():
    c = case("hifigan", torch.float16, frames=5)
    engine = c.engine()
    with_g = engine(*c.args)
    c.g = None
    assert_contract(engine(c.x), c.eager(), c.exact())
    assert not torch.equal(engine(c.x), with_g)


def test_channels_last_and_expanded_inputs():
    c = case("hifigan", torch.float16, frames=9, batch=3)
    engine = c.engine()
    strided = c.x.transpose(1, 2).contiguous().transpose(1, 2)
    assert torch.equal(engine(strided, c.g), engine(*c.args))
    shared = c.g[:1]
    assert torch.equal(engine(c.x, shared), engine(c.x, shared.expand(3, -1, -1).contiguous()))


def test_the_plan_in_words():
    """For a window and for many, without running anything."""
    c = case(BRIEF["bigvgan"], torch.float16, frames=1)
    engine = c.engine(chunk_frames=20)
    text = engine.explain(130)
    assert "graph launch of" in text and "pool of" in text and "GFLOP" in text
    for step in ("head", "stage0.up", "stage1.unit1", "tail"):
        assert step in text
    assert engine.statistics()["pool_bytes"] == 0
