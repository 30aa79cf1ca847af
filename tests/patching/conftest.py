"""A patched vocoder on every backend there is."""

from __future__ import annotations

import pytest
import torch
import torch_backend
from reference import CONFIGS, build, inputs

from vocoder_kernels import report
from vocoder_kernels.backends import backend_named


class Case:
    """A vocoder in eval mode with an input; ``tolerance`` for fp32 against the original forward."""

    tolerance = 1e-5

    def __init__(self, config: dict, norm: str = "none", frames: int = 9, batch: int = 1):
        self.config = config
        self.model = build(config, norm=norm)
        self.x, self.g = inputs(config, frames, batch)

    @property
    def args(self) -> tuple[torch.Tensor, ...]:
        return (self.x,) if self.g is None else (self.x, self.g)

    def __call__(self, *args: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self.model(*(args or self.args))

    def original(self, *args: torch.Tensor) -> torch.Tensor:
        """What the class computes, whatever the instance's forward is."""
        with torch.no_grad():
            return type(self.model).forward(self.model, *(args or self.args))

    @property
    def state(self):
        (state,) = report(self.model).modules
        return state

    def accelerated(self, model: torch.nn.Module | None = None) -> float:
        (state,) = report(model or self.model).modules
        return state.statistics.get("accelerated", 0)

    def assert_ours(self) -> None:
        """The next call runs on the engine and gives what the module's weights say."""
        before = self.accelerated()
        got, want = self(), self.original()
        assert self.accelerated() == before + 1, str(report(self.model))
        assert got.dtype == want.dtype and got.shape == want.shape
        tolerance = {torch.float32: self.tolerance, torch.float16: 2e-2, torch.bfloat16: 1e-1}
        assert (got - want).abs().max() <= tolerance[got.dtype]

    def assert_original(self, why: str, *args: torch.Tensor) -> None:
        """The next call runs the original forward for the reason ``why``; bit for bit."""
        before = self.accelerated()
        got = self(*args)
        assert self.accelerated() == before
        assert any(why in cause for cause in self.state.originals), self.state.originals
        assert torch.equal(got, self.original(*args))


@pytest.fixture(params=["cpu", "torch"])
def backend(request):
    """The CPU kernels, then PyTorch behind the same interface."""
    if request.param == "cpu":
        try:
            yield backend_named("cpu")
        except ImportError as error:
            pytest.skip(f"the native CPU core is not built: {error}")
        return
    with torch_backend.installed(torch_backend.TorchBackend()) as fake:
        yield fake


@pytest.fixture
def fake_backend():
    """PyTorch behind the backend interface, in every dtype, keeping what it compiled."""
    with torch_backend.installed(torch_backend.TorchBackend()) as fake:
        yield fake


@pytest.fixture(params=["hifigan", "bigvgan"])
def case(request) -> Case:
    return Case(CONFIGS[request.param], norm="old")


@pytest.fixture
def hifigan() -> Case:
    return Case(CONFIGS["hifigan"])


@pytest.fixture
def make_case():
    def make(name: str = "hifigan", **settings) -> Case:
        return Case(CONFIGS[name], **settings)

    return make
