"""A module described and its weights extracted compute what the module computes, in float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BIGVGAN, CONFIGS, HIFIGAN, NORMS, build, configs, inputs, run
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch_backend import TorchExecutable

from vocoder_kernels.families import describe, extract, family_of
from vocoder_kernels.modules import PRESETS
from vocoder_kernels.modules import build as build_preset


def computed(module: nn.Module, x: torch.Tensor, g: torch.Tensor | None) -> torch.Tensor:
    """The audio according to the description and the extracted weights alone, in float64."""
    vocoder = describe(module)
    weights = extract(module, vocoder)
    out = torch.empty(x.shape[0], 1, vocoder.length(x.shape[2]), dtype=torch.float64)
    g = g if g is None else g.double()
    with torch.no_grad():
        lengths = [x.shape[2]] * x.shape[0]
        TorchExecutable(vocoder, weights, torch.float64).run(x.double(), g, lengths, out)
    return out


def assert_described(module: nn.Module, config: dict, frames: int = 9, tolerance: float = 1e-6):
    """1e-6: snake parameters leave their logs in the module's own float32."""
    x, g = inputs(config, frames, batch=2)
    exact = run(module.state_dict(), config, x, g)
    ours = computed(module, x, g)
    assert ours.shape == exact.shape
    assert (ours - exact).abs().max() < tolerance


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", CONFIGS)
def test_every_kind(name, norm):
    assert_described(build(CONFIGS[name], norm=norm), CONFIGS[name])


@given(config=configs(), norm=st.sampled_from(NORMS), frames=st.integers(1, 12))
@settings(max_examples=40)
def test_any_sizes(config, norm, frames):
    assert_described(build(config, norm=norm).double(), config, frames, tolerance=1e-12)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_reference_module_is_the_reference_function(name):
    """The two independent references of these tests agree."""
    module = build(CONFIGS[name]).double()
    x, g = inputs(CONFIGS[name], 7)
    arguments = (x.double(),) if g is None else (x.double(), g.double())
    with torch.no_grad():
        exact = run(module.state_dict(), CONFIGS[name], x, g)
        assert (module(*arguments) - exact).abs().max() < 1e-13


def test_without_a_condition_although_it_has_one():
    module = build(HIFIGAN)
    x, _ = inputs(HIFIGAN, 5)
    exact = run(module.state_dict(), HIFIGAN, x, None)
    assert (computed(module, x, None) - exact).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["hifigan", "bigvgan"])
@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_stale_plain_weights_are_not_read(name, cast):
    """Old-style weight norm leaves ``.weight`` behind when the module is cast or moved."""
    config = CONFIGS[name]
    module = getattr(build(config, norm="old"), cast)()
    for layer in module.modules():
        if hasattr(layer, "weight_g"):
            layer.weight = torch.full_like(layer.weight_v, torch.nan)
    weights = extract(module, describe(module))
    dtype = module.conv_pre.weight.dtype
    assert weights["head.weight"].dtype == dtype == weights["head.bias"].dtype
    assert weights["stages.0.up.weight"].dtype in (torch.float32, torch.float64)
    x, g = inputs(config, 6)
    exact = run(module.state_dict(), config, x, g)
    assert (computed(module, x, g) - exact).abs().max() < 1e-6


@pytest.mark.parametrize("dim", [0, 1, 2, -1, None])
def test_weight_norm_over_other_dimensions(dim):
    module = build(HIFIGAN).double()
    plain = copy.deepcopy(module)
    layers = [module.ups[0], module.resblocks[0].convs1[0], module.conv_post]
    for old, layer in enumerate(layers):
        wrap = nn.utils.weight_norm if old else nn.utils.parametrizations.weight_norm
        wrap(layer, dim=dim)
    weights = extract(module, describe(module))
    for name, weight in extract(plain, describe(plain)).items():
        torch.testing.assert_close(weights[name], weight, rtol=1e-12, atol=1e-12)


def test_a_parametrization_of_a_bias():
    class Doubled(nn.Module):
        def forward(self, bias):
            return 2 * bias

    module = build(HIFIGAN)
    bias = module.ups[0].bias.detach().clone()
    nn.utils.parametrize.register_parametrization(module.ups[0], "bias", Doubled())
    assert torch.equal(extract(module, describe(module))["stages.0.up.bias"], 2 * bias)


def test_a_normalisation_that_leaves_a_parametrization():
    module = build(HIFIGAN)
    nn.utils.parametrizations.spectral_norm(module.ups[1]).eval()
    weights = extract(module, describe(module))
    assert torch.equal(weights["stages.1.up.weight"], module.ups[1].weight)


def test_layers_without_bias_everywhere():
    for config in (HIFIGAN, BIGVGAN):
        module = build(config)
        for layer in module.modules():
            if isinstance(layer, (nn.Conv1d, nn.ConvTranspose1d)):
                layer.bias = None
        assert not any(name.endswith(".bias") for name in extract(module, describe(module)))
        assert_described(module, config)


def test_padding_given_by_name():
    module = build(HIFIGAN)
    for layer in module.modules():
        if isinstance(layer, nn.Conv1d):
            layer.padding = "same"
    assert describe(module) == describe(build(HIFIGAN))


def test_upsampling_outside_a_list():
    """BigVGAN's ``ups.i`` may be the layer itself."""
    module = build(BIGVGAN)
    nested = describe(module)
    module.ups = nn.ModuleList(layers[0] for layers in module.ups)
    assert describe(module) == nested


def test_one_block_in_several_places():
    module = build(HIFIGAN)
    module.resblocks[1] = module.resblocks[0]
    x, g = inputs(HIFIGAN, 5)
    with torch.no_grad():
        exact = copy.deepcopy(module).double()(x.double(), g.double())
    assert (computed(module, x, g) - exact).abs().max() < 1e-12


@given(config=configs(), frames=st.integers(1, 9))
@settings(max_examples=40)
def test_lengths_flops_and_parameters_are_counted(config, frames):
    module = build(config)
    vocoder = describe(module)
    x, g = inputs({**config, "gin_channels": 0}, frames)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        audio = module(x)
    assert audio.shape[2] == vocoder.length(frames)
    assert g is None
    counted = counter.get_total_flops()
    if vocoder.family == "hifigan":
        assert counted == vocoder.flops(frames)
    else:  # the counter takes the filters of the activations for convolutions
        assert counted > vocoder.flops(frames)
    own = [p for name, p in module.named_parameters() if not name.endswith((".alpha", ".beta"))]
    assert vocoder.parameter_count == sum(p.numel() for p in own)


@given(config=configs())
@settings(max_examples=25)
def test_the_receptive_field_is_exact(config):
    """Gradients of one frame's samples reach as many frames as it says, and no further."""
    module = build(config).double()
    if hasattr(module, "use_tanh_at_final"):
        module.use_tanh_at_final = True  # clamping has no gradient where it clips
    vocoder = describe(module)
    halo = vocoder.receptive_field
    frames, middle = 2 * halo + 5, halo + 2
    x, _ = inputs({**config, "gin_channels": 0}, frames)
    x = x.double().requires_grad_()
    audio = module(x)
    hop = vocoder.hop_length
    reached = torch.zeros(frames, dtype=torch.bool)
    for sample in {0, hop - 1}:  # the first and the last reach farthest
        (gradient,) = torch.autograd.grad(audio[0, 0, middle * hop + sample], x, retain_graph=True)
        reached |= gradient[0].ne(0).any(0)
    found = reached.nonzero().flatten() - middle
    assert max(-found.min(), found.max()) == halo


PUBLISHED = [("v2", 11, 41), ("v2proplus", 11, 91), ("v4", 12, 65), ("v3", 38, 169)]


@pytest.mark.parametrize("version,halo,gflop_per_s", PUBLISHED)
def test_published_vocoders(version, halo, gflop_per_s):
    rate_hz = {"v4": 48000, "v3": 24000}.get(version, 32000)
    vocoder = describe(build_preset(version))
    assert vocoder.receptive_field == halo
    frames = 100
    seconds = vocoder.hop_length * frames / rate_hz
    assert abs(vocoder.flops(frames) / seconds / 1e9 - gflop_per_s) < 1
    assert vocoder.head.C_in == PRESETS[version].get("initial_channel", 100)
    text = str(vocoder)
    assert f"receptive field {halo} frames" in text and "branches [3, 7, 11]" in text


def test_what_is_no_vocoder_has_no_family():
    assert family_of(nn.Linear(2, 2)) is None
    assert family_of(build(HIFIGAN)) == "hifigan"
    assert family_of(build(BIGVGAN)) == "bigvgan"
