"""The published classes themselves: described, patched, moved, saved and restored."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from reference import BIGVGAN, HIFIGAN, inputs, run
from reference.upstream import GENERATORS, nvidia_bigvgan
from torch import nn
from torch_backend import TorchBackend, TorchExecutable, installed

from vocoder_kernels import modules, native, patch, report, unpatch, verify
from vocoder_kernels.families import describe, extract

PLAIN = {**HIFIGAN, "gin_channels": 0, "is_bias": True}
RESBLOCK2 = {
    **HIFIGAN,
    "resblock": "2",
    "resblock_kernel_sizes": (3, 5),
    "resblock_dilation_sizes": ((1, 3),) * 2,
}
BIGVGANS = {
    "snakebeta-log-clamp": BIGVGAN,
    "snake-log-tanh-bias": {
        **BIGVGAN,
        "activation": "snake",
        "use_tanh_at_final": True,
        "use_bias_at_final": True,
    },
    "snakebeta-linear": {**BIGVGAN, "snake_logscale": False},
    "resblock2": {**BIGVGAN, "resblock": "2", "activation": "snake"},
}
CASES = {
    **{f"{package}-cond": (make, HIFIGAN) for package, make in GENERATORS.items()},
    **{f"{package}-plain": (make, PLAIN) for package, make in GENERATORS.items()},
    "gpt-sovits-cpufast-resblock2": (GENERATORS["gpt-sovits-cpufast"], RESBLOCK2),
    **{f"bigvgan-{name}": (nvidia_bigvgan, config) for name, config in BIGVGANS.items()},
}


@pytest.fixture(params=CASES)
def upstream(request) -> tuple[nn.Module, dict]:
    """A published class with the weights of a well-behaved vocoder, under old-style weight norm."""
    make, config = CASES[request.param]
    module = make(config)
    ours = modules.BigVGAN(**config) if "num_mels" in config else modules.Generator(**config)
    modules.presets.randomise_(ours)
    folded = ours.state_dict()
    with torch.no_grad():
        for name, layer in module.named_modules():
            if hasattr(layer, "weight_g"):
                weight = folded.pop(f"{name}.weight")
                layer.weight_v.copy_(weight)
                layer.weight_g.copy_(torch.norm_except_dim(weight, 2, 0))
    missing, unexpected = module.load_state_dict(folded, strict=False)
    assert not unexpected and all(n.endswith(("weight_g", "weight_v")) for n in missing)
    call(module.eval(), *inputs(config, 1))  # recomputes ``.weight``, which can then be copied
    return module, config


@pytest.fixture
def backend():
    """The CPU kernels, or PyTorch behind the same interface where they were not built."""
    if native.available():
        yield
    else:
        with installed(TorchBackend()):
            yield


def call(module: nn.Module, x: torch.Tensor, g: torch.Tensor | None) -> torch.Tensor:
    with torch.no_grad():
        return module(x) if g is None else module(x, g=g)


def test_it_computes_what_the_references_of_these_tests_compute(upstream):
    """So that what is proven against the references holds for the published classes."""
    module, config = upstream
    x, g = inputs(config, 11)
    got = call(copy.deepcopy(module).double(), x.double(), None if g is None else g.double())
    assert (got - run(module.state_dict(), config, x, g)).abs().max() < 1e-12


def test_description_and_weights(upstream):
    module, config = upstream
    x, g = inputs(config, 11)
    vocoder = describe(module)
    weights = extract(module, vocoder)
    out = torch.empty(1, 1, vocoder.length(11), dtype=torch.float64)
    g = g if g is None else g.double()
    with torch.no_grad():
        TorchExecutable(vocoder, weights, torch.float64).run(x.double(), g, [11], out)
    assert (out - run(module.state_dict(), config, x, g)).abs().max() < 1e-6


def test_our_modules_have_the_same_names(upstream):
    """Checkpoints of the published classes load into `vocoder_kernels.modules`."""
    module, config = upstream
    if hasattr(module, "activation_post"):
        module.remove_weight_norm()
    else:
        for layer in module.modules():
            if hasattr(layer, "weight_g"):
                nn.utils.remove_weight_norm(layer)
    ours = modules.BigVGAN(**config) if "num_mels" in config else modules.Generator(**config)
    ours.load_state_dict(module.state_dict())
    x, g = inputs(config, 5)
    assert (call(ours.eval(), x, g) - call(module, x, g)).abs().max() < 2e-6


def test_patched_whole_life(upstream, backend):
    module, config = upstream
    x, g = inputs(config, 23)
    before, keys = call(module, x, g), list(module.state_dict())
    outcome = patch(module)
    assert outcome, str(outcome)
    exact = run(module.state_dict(), config, x, g)
    assert (call(module, x, g) - exact).abs().max() < 1e-5
    assert report(module).modules[0].statistics["accelerated"] == 1
    assert verify(module).ok and list(module.state_dict()) == keys

    copied = copy.deepcopy(module)
    assert "forward" not in vars(copied) or copied.forward.__self__ is copied
    assert torch.equal(call(copied, x, g), before)
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(0.9)
    assert (call(module, x, g) - run(module.state_dict(), config, x, g)).abs().max() < 1e-5
    module.load_state_dict(torch.load(file, weights_only=True))
    assert (call(module, x, g) - exact).abs().max() < 1e-5
    module.remove_weight_norm()
    assert (call(module, x, g) - exact).abs().max() < 1e-5
    assert report(module).modules[0].statistics["accelerated"] == 4
    unpatch(module)
    assert "forward" not in vars(module)
    assert (call(module, x, g) - before).abs().max() < 2e-6


@pytest.mark.parametrize("upstream", ["bigvgan-snakebeta-log-clamp"], indirect=True)
def test_the_fused_activation_is_refused(upstream):
    """NVIDIA's CUDA kernel differs from its PyTorch module at the edges."""
    module, _ = upstream
    for layer in module.modules():
        if type(layer).__name__ == "Activation1d":
            layer.fused = True
    outcome = patch(module)
    assert not outcome and "use_cuda_kernel=False" in outcome.modules[0].why
