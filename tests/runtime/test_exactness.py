"""The whole engine on the CPU kernels against float64."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BIGVGAN, CONFIGS, HIFIGAN, build, configs, inputs, run
from runtime.conftest import Case, assert_within_contract

from vocoder_kernels import compile, native

pytestmark = pytest.mark.usefixtures("needs_native")


@pytest.mark.parametrize("frames", [1, 2, 3, 13, 61, 127])
def test_every_kind_and_length(case, frames):
    case.assert_exact(*case.inputs(frames))


def test_lengths_around_windows(case):
    """One frame, shorter than the halo, and every remainder next to one and two windows."""
    chunked = Case(case.config, chunk_frames=16)
    for frames in (1, case.halo - 1, case.halo, case.halo + 1, 15, 16, 17, 31, 32, 33, 97):
        chunked.assert_exact(*chunked.inputs(frames))


@given(
    config=configs(),
    frames=st.integers(1, 40),
    chunk_frames=st.integers(1, 20),
    batch=st.integers(1, 3),
    isa=st.sampled_from(native.isas() if native.available() else ["auto"]),
)
@settings(max_examples=50)
def test_any_vocoder_any_length(config, frames, chunk_frames, batch, isa):
    case = Case(config, chunk_frames=chunk_frames, isa=isa)
    x, g = case.inputs(frames, batch)
    ours, eager, exact = case.engine(x, g), case.eager(x, g), case.exact(x, g)
    for row in range(batch):
        assert_within_contract(ours[row], eager[row], exact[row])


@pytest.mark.parametrize("isa", ["auto", "generic"])
@pytest.mark.parametrize("channels", [16, 24, 48, 96, 192])
def test_widths_of_real_vocoders(channels, isa):
    """Each width takes another algorithm: direct, transforms, blocks, chunks."""
    sizes = {"upsample_rates": (2,), "upsample_kernel_sizes": (4,)}
    wide = {**HIFIGAN, **sizes, "upsample_initial_channel": 2 * channels}
    Case(wide, isa=isa).assert_exact(*inputs(wide, 70))
    snakes = {**BIGVGAN, **sizes, "upsample_initial_channel": 2 * channels}
    Case(snakes, isa=isa).assert_exact(*inputs(snakes, 70))


def test_quiet_next_to_loud(case):
    """Transforms spread a tile's rounding over all of it: the quiet part stays exact too."""
    x, g = case.inputs(80)
    x[:, :, :40] *= 1e-4
    case.assert_exact(x, g)


@pytest.mark.parametrize("scale", [0.0, 1e-38, 1e-20, 1e-3])
def test_silence_and_denormals(case, scale):
    x, g = case.inputs(30)
    case.assert_exact(x * scale, g)


@pytest.mark.parametrize("scale", [1e3, 1e5, 1e7])
def test_loud_inputs_stay_bounded(case, scale):
    """Far outside of any mel; errors as of eager's kind, and never a NaN."""
    x, g = case.inputs(30)
    ours, exact = case.engine(x * scale, g), case.exact(x * scale, g)
    assert ours.isfinite().all() and ours.abs().max() <= 1
    assert (ours.double() - exact).square().mean().sqrt() < 1e-3


def test_edges_are_as_exact_as_the_middle(case):
    x, g = case.inputs(2 * case.halo + 40)
    error = (case.engine(x, g).double() - case.exact(x, g)).abs().flatten()
    edge = case.hop * case.halo
    middle = error[edge:-edge].max()
    assert max(error[:edge].max(), error[-edge:].max()) <= 4 * middle + 1e-6


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["hifigan", "bigvgan"])
def test_reduced_dtypes_are_more_exact_than_eager(name, dtype):
    """Computed in fp32: what remains is the rounding of the result."""
    model = build(CONFIGS[name]).to(dtype)
    x, g = inputs(CONFIGS[name], 40)
    x, g = x.to(dtype), None if g is None else g.to(dtype)
    ours = compile(model, chunk_frames=16)(x, g)
    with torch.no_grad():
        eager = model(x) if g is None else model(x, g)
    exact = run(model.state_dict(), CONFIGS[name], x, g)
    assert ours.dtype == dtype
    ours_error, eager_error = (ours.double() - exact).abs(), (eager.double() - exact).abs()
    assert ours_error.max() <= eager_error.max() / 2
    assert ours_error.max() <= torch.finfo(dtype).eps / 2 + 1e-5


def test_filters_that_are_not_symmetric():
    """Kernels take the taps as they are: convolution and correlation are not mixed up."""
    model = build(BIGVGAN)
    generator = torch.Generator().manual_seed(3)
    up, down = (torch.rand(1, 1, 12, generator=generator) for _ in range(2))
    for layer in model.modules():
        if hasattr(layer, "lowpass"):
            layer.lowpass.filter.copy_(down / down.sum())
        elif hasattr(layer, "upsample"):
            layer.upsample.filter.copy_(up / up.sum())
    x, _ = inputs(BIGVGAN, 30)
    with torch.no_grad():
        eager = model(x)
        exact = copy.deepcopy(model).double()(x.double())
    assert_within_contract(compile(model)(x), eager, exact)


def replace_conv(model, name: str, kernel: int, dilation: int) -> None:
    """In place of ``model.<name>``, one of the same channels that also keeps the length."""
    old = model.get_submodule(name)
    padding = dilation * (kernel - 1) // 2
    new = torch.nn.Conv1d(old.in_channels, old.out_channels, kernel, 1, padding, dilation)
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, new)


@pytest.mark.parametrize("kernel,dilation", [(1, 1), (3, 1), (5, 3), (9, 2), (21, 1), (4, 2)])
@pytest.mark.parametrize("name", ["conv_pre", "conv_post", "resblocks.0.convs1.0"])
def test_unusual_layers_are_exact_or_refused(name, kernel, dilation):
    model = build(CONFIGS["hifigan"])
    replace_conv(model, name, kernel, dilation)
    x, g = inputs(CONFIGS["hifigan"], 30)
    with torch.no_grad():
        eager, exact = model(x, g), copy.deepcopy(model).double()(x.double(), g.double())
    try:
        engine = compile(model)
    except NotImplementedError as refusal:
        assert "CPU kernels" in str(refusal)
        assert kernel % 2 == 0 or (name, dilation > 1) == ("conv_post", True)
        return
    assert_within_contract(engine(x, g), eager, exact)
