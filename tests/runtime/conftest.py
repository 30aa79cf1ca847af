"""Engines over the native CPU kernels and over PyTorch, and what exact means."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from reference import CONFIGS, build, inputs, run
from torch_backend import TorchBackend, installed

from vocoder_kernels import compile, native
from vocoder_kernels.runtime.engine import Engine


class Case:
    """A vocoder with its engine on the CPU kernels."""

    def __init__(self, config: dict, **options):
        self.config = config
        self.model = build(config)
        self.engine = compile(self.model, **options)
        self.halo = self.engine.vocoder.receptive_field
        self.hop = self.engine.vocoder.hop_length

    def inputs(self, frames: int, batch: int = 1, seed: int = 1):
        return inputs(self.config, frames, batch, seed)

    def eager(self, x: torch.Tensor, g: torch.Tensor | None) -> torch.Tensor:
        with torch.no_grad():
            return self.model(x) if g is None else self.model(x, g)

    def exact(self, x: torch.Tensor, g: torch.Tensor | None) -> torch.Tensor:
        return run(self.model.state_dict(), self.config, x, g)

    def window_allowance(self, x: torch.Tensor, g: torch.Tensor | None) -> float:
        """Most difference between window sizes on the CPU, where a transform's tile grid starts
        with its window: 2e-6 of full scale, which for random weights is the peak before tanh or
        clamping."""
        peaks = [1.0]
        hook = self.model.conv_post.register_forward_hook(
            lambda layer, inputs, audio: peaks.append(audio.abs().max().item())
        )
        self.eager(x, g)
        hook.remove()
        return 2e-6 * max(peaks)

    def assert_exact(self, x: torch.Tensor, g: torch.Tensor | None) -> torch.Tensor:
        ours = self.engine(x, g)
        assert_within_contract(ours, self.eager(x, g), self.exact(x, g))
        return ours


ENOUGH_SAMPLES = 1000


def assert_within_contract(ours, eager, exact) -> None:
    """1e-5 of full scale, which is 1. Where there are samples enough to compare two errors, at most
    twice eager's, max and rms, and a few ulp of full scale."""
    assert ours.shape == exact.shape and ours.dtype == eager.dtype
    error, eager_error = (ours.double() - exact).abs(), (eager.double() - exact).abs()
    assert error.max() <= 1e-5
    unclipped = exact.abs() < 1
    if unclipped.sum() < ENOUGH_SAMPLES:
        return
    ulp = torch.finfo(eager.dtype).eps
    assert error.max() <= 2 * eager_error.max() + 8 * ulp
    rms, eager_rms = (e[unclipped].square().mean().sqrt() for e in (error, eager_error))
    assert rms <= 2 * eager_rms + ulp


@contextmanager
def poisoned_memory():
    """Whatever PyTorch allocates without writing to it holds NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.fixture
def needs_native() -> None:
    if not native.available():
        pytest.skip("the native kernels were not built (VOCODER_KERNELS_NATIVE=off?)")


@pytest.fixture(params=CONFIGS)
def case(request, needs_native) -> Case:
    return Case(CONFIGS[request.param])


@pytest.fixture
def torch_engine():
    """An engine over PyTorch for a named configuration: exact, and independent of the kernels."""

    def make(name: str) -> Engine:
        with installed(TorchBackend()):
            return compile(build(CONFIGS[name]))

    return make
