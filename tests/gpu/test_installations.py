"""Installations that lack one of the two compilers."""

from __future__ import annotations

import pytest
import torch
from vocoders import BRIEF, assert_contract, case

from vocoder_kernels import native, patch
from vocoder_kernels.ops import registry

PLAIN = {**BRIEF["hifigan"], "gin_channels": 0}


def implementations(engine):
    programs = engine.executable._programs.values()
    return {step.desc.choice.name for program in programs for step in program.launches}


@pytest.fixture
def no_triton(monkeypatch):
    operation = registry.operation

    def missing(name, implementation="triton"):
        if implementation == "triton":
            raise ImportError("No module named 'triton'")
        return operation(name, implementation)

    monkeypatch.setattr(registry, "operation", missing)


@pytest.mark.parametrize("config", (BRIEF["hifigan"], BRIEF["bigvgan"]), ids=("hifigan", "bigvgan"))
def test_without_the_cuda_core(config, monkeypatch):
    monkeypatch.setattr(native, "has_cuda", lambda: False)
    c = case(config, torch.float16, frames=9)
    engine = c.engine()
    assert implementations(engine) == {"triton"}
    assert_contract(engine(*c.args), c.eager(), c.exact())


@pytest.mark.skipif(not native.has_cuda(), reason="the CUDA core is not built")
@pytest.mark.parametrize("config", (PLAIN, BRIEF["bigvgan"]), ids=("hifigan", "bigvgan"))
def test_without_triton(config, no_triton):
    c = case(config, torch.float16, frames=9)
    engine = c.engine()
    assert implementations(engine) == {"cuda"}
    assert_contract(engine(*c.args), c.eager(), c.exact())


def test_without_triton_float32_falls_back_as_a_whole(no_triton):
    c = case(PLAIN, torch.float32, frames=3)
    (state,) = patch(c.model).modules
    assert state.status == "fell back"
    assert "triton is not installed" in state.why and "not float32" in state.why
    with torch.no_grad():
        assert torch.equal(c.model(*c.args), c.eager())


def test_with_neither(no_triton, monkeypatch):
    monkeypatch.setattr(native, "has_cuda", lambda: False)
    c = case(PLAIN, torch.float16, frames=3)
    (state,) = patch(c.model).modules
    assert state.status == "fell back" and "reinstall vocoder_kernels with nvcc" in state.why
