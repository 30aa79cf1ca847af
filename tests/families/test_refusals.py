"""Whatever deviates from its family is refused with the reason, never approximated."""

from __future__ import annotations

import re

import pytest
import torch
from reference import BIGVGAN, CONFIGS, HIFIGAN, build
from reference.models import Generator
from torch import nn
from torch_backend import TorchBackend, installed

from vocoder_kernels import patch
from vocoder_kernels.families import Unrecognised, describe, extract

DEVIATIONS: dict = {}


@pytest.fixture(autouse=True)
def backend():
    with installed(TorchBackend()):
        yield


def deviation(config: dict, reason: str):
    """Register a change to a vocoder of ``config`` that must be refused for ``reason``."""

    def register(change):
        DEVIATIONS[change.__name__.strip("_")] = (config, change, reason)
        return change

    return register


def conv(*arguments, **settings):
    return nn.Conv1d(*arguments, **settings)


@deviation(HIFIGAN, "conv_pre: expected stride 1, got 2")
def _stride(m):
    m.conv_pre = conv(12, 48, 7, stride=2, padding=3)


@deviation(HIFIGAN, "conv_post: kernel 7, dilation 1, padding")
def _padding(m):
    m.conv_post = conv(6, 1, 7, padding=2)


@deviation(HIFIGAN, "conv_post: kernel 7, dilation 1, padding valid changes the length")
def _padding_valid(m):
    m.conv_post = conv(6, 1, 7, padding="valid")


@deviation(HIFIGAN, "convs1.0: kernel 4, dilation 1, padding same changes the length")
def _padding_same_of_an_even_kernel(m):
    m.resblocks[0].convs1[0] = conv(24, 24, 4, padding="same")


@deviation(HIFIGAN, "expected zero padding, got 'reflect'")
def _padding_mode(m):
    m.resblocks[2].convs2[1] = conv(24, 24, 11, padding=5, padding_mode="reflect")


@deviation(HIFIGAN, "resblocks.0.convs1.0: expected groups 1, got 2")
def _groups(m):
    m.resblocks[0].convs1[0] = conv(24, 24, 3, padding=1, groups=2)


@deviation(HIFIGAN, "ups.1: expected dilation 1, got 2")
def _dilated_upsampling(m):
    m.ups[1] = nn.ConvTranspose1d(24, 12, 7, 3, padding=2, dilation=2)


@deviation(HIFIGAN, "ups.1: expected output_padding 0, got 1")
def _output_padding(m):
    m.ups[1] = nn.ConvTranspose1d(24, 12, 7, 3, padding=2, output_padding=1)


@deviation(HIFIGAN, "ups.1: kernel 3, stride 3, padding 1 loses samples")
def _upsampling_loses_samples(m):
    m.ups[1] = nn.ConvTranspose1d(24, 12, 3, 3, padding=1)


@deviation(HIFIGAN, "ups.1: expected ConvTranspose1d, got Upsample")
def _other_upsampling(m):
    m.ups[1] = nn.Upsample(scale_factor=3)


@deviation(HIFIGAN, "ups.1: expected 24 input channels, got 25")
def _channels_do_not_chain(m):
    m.ups[1] = nn.ConvTranspose1d(25, 12, 7, 3, padding=2)


@deviation(HIFIGAN, "convs2.0: changes the channel count")
def _residual_changes_channels(m):
    m.resblocks[0].convs2[0] = conv(24, 12, 3, padding=1)


@deviation(HIFIGAN, "conv_post: expected 1 output channel, got 2")
def _stereo(m):
    m.conv_post = conv(6, 2, 7, padding=3)


@deviation(HIFIGAN, "cond: expected kernel 1, got 3")
def _wide_condition(m):
    m.cond = conv(10, 48, 3, padding=1)


@deviation(HIFIGAN, "cond: expected 48 outputs, got 24")
def _narrow_condition(m):
    m.cond = conv(10, 24, 1)


@deviation(HIFIGAN, "cond: expected Conv1d, got Linear")
def _linear_condition(m):
    m.cond = nn.Linear(10, 48)


@deviation(HIFIGAN, "9 blocks cannot be shared evenly by 2 upsamplings|expected 24 input channels")
def _missing_upsampling(m):
    m.ups = m.ups[:2]


@deviation(HIFIGAN, "8 blocks cannot be shared evenly")
def _missing_block(m):
    m.resblocks = m.resblocks[:8]


@deviation(HIFIGAN, "num_kernels is 2")
def _fewer_kernels_declared(m):
    m.num_kernels = 2


@deviation(HIFIGAN, "num_upsamples is 2")
def _fewer_upsamplings_declared(m):
    m.num_upsamples = 2


@deviation(HIFIGAN, "resblocks.0: 3 convs1 but 2 convs2")
def _uneven_block(m):
    m.resblocks[0].convs2 = m.resblocks[0].convs2[:2]


@deviation(HIFIGAN, "resblocks.0: has no convolutions")
def _empty_block(m):
    m.resblocks[0].convs1, m.resblocks[0].convs2 = nn.ModuleList(), nn.ModuleList()


@deviation(HIFIGAN, "ups: expected at least one")
def _no_upsampling(m):
    m.ups = nn.ModuleList()


@deviation(HIFIGAN, "unknown submodules post_filter")
def _extra_submodule(m):
    m.post_filter = nn.Identity()


@deviation(HIFIGAN, "resblocks.4: unknown submodules gate")
def _extra_submodule_in_a_block(m):
    m.resblocks[4].gate = conv(12, 12, 1)


@deviation(HIFIGAN, "Generator: unknown parameters or buffers gain")
def _extra_parameter(m):
    m.gain = nn.Parameter(torch.ones(1))


@deviation(HIFIGAN, "resblocks.4: unknown parameters or buffers mask")
def _extra_buffer_in_a_block(m):
    m.resblocks[4].register_buffer("mask", torch.ones(1))


@deviation(HIFIGAN, "conv_post: has forward hooks")
def _hook(m):
    m.conv_post.register_forward_hook(lambda *_: None)


@deviation(HIFIGAN, "resblocks.0: has forward hooks")
def _pre_hook_of_a_block(m):
    m.resblocks[0].register_forward_pre_hook(lambda *_: None)


@deviation(HIFIGAN, "ups.0: has forward hooks")
def _old_spectral_norm(m):
    nn.utils.spectral_norm(m.ups[0])


@deviation(HIFIGAN, "conv_post: has forward hooks")
def _old_weight_norm_of_a_bias(m):
    m.conv_post = nn.utils.weight_norm(conv(6, 1, 7, padding=3), "bias")


@deviation(HIFIGAN, "conv_pre: Doubled overrides Conv1d.forward")
def _subclassed_layer(m):
    class Doubled(nn.Conv1d):
        def forward(self, x):
            return 2 * super().forward(x)

    m.conv_pre = Doubled(12, 48, 7, padding=3)


@deviation(HIFIGAN, "conv_pre: Causal overrides Conv1d._conv_forward")
def _subclassed_inside_of_a_layer(m):
    class Causal(nn.Conv1d):
        def _conv_forward(self, x, weight, bias):
            return super()._conv_forward(x.roll(1), weight, bias)

    m.conv_pre = Causal(12, 48, 7, padding=3)


@deviation(HIFIGAN, "conv_pre: its forward was replaced on the instance")
def _forward_of_a_layer_replaced(m):
    m.conv_pre.forward = lambda x: x


@deviation(HIFIGAN, "resblocks.3: its forward was replaced on the instance")
def _forward_of_a_block_replaced(m):
    m.resblocks[3].forward = lambda x: x


@deviation(BIGVGAN, "resblocks.0.activations.1: uses the fused CUDA activation.*use_cuda_kernel")
def _fused_activation(m):
    m.resblocks[0].activations[1].fused = True


@deviation(BIGVGAN, "activation_post.upsample: expected a filter of 12 taps")
def _other_filter_length(m):
    m.activation_post.upsample.filter = torch.ones(1, 1, 14) / 14


@deviation(BIGVGAN, "its anti-aliasing filters differ")
def _other_filter(m):
    m.resblocks[1].activations[2].downsample.lowpass.filter[0, 0, 3] += 1e-3


@deviation(BIGVGAN, "activation_post.up_ratio: expected 2, got 3")
def _other_ratio(m):
    m.activation_post.up_ratio = 3


@deviation(BIGVGAN, "activation_post: expected a submodule downsample")
def _no_downsampling(m):
    del m.activation_post.downsample


@deviation(BIGVGAN, "activation_post: unknown submodules dropout")
def _extra_submodule_in_an_activation(m):
    m.activation_post.dropout = nn.Dropout()


@deviation(BIGVGAN, "activation_post.upsample: has forward hooks")
def _hook_of_a_resampling(m):
    m.activation_post.upsample.register_forward_hook(lambda *_: None)


@deviation(BIGVGAN, "activation_post.downsample.lowpass: has forward hooks")
def _hook_of_a_filter(m):
    m.activation_post.downsample.lowpass.register_forward_hook(lambda *_: None)


@deviation(BIGVGAN, "activations.0.act: expected parameters alpha or alpha and beta, got .*gamma")
def _other_activation(m):
    m.resblocks[0].activations[0].act.gamma = nn.Parameter(torch.ones(16))


@deviation(BIGVGAN, "activations.0.act: expected parameters alpha or alpha and beta, got")
def _activation_without_parameters(m):
    m.resblocks[0].activations[0].act = nn.SiLU()


@deviation(BIGVGAN, "activation_post.act: expected a flag alpha_logscale")
def _no_flag(m):
    del m.activation_post.act.alpha_logscale


@deviation(BIGVGAN, "activation_post.act.beta: expected 8, got 1")
def _one_beta_for_all_channels(m):
    m.activation_post.act.beta = nn.Parameter(torch.ones(1))


@deviation(BIGVGAN, "activations.0.act: its forward was replaced on the instance")
def _forward_of_an_activation_replaced(m):
    m.resblocks[0].activations[0].act.forward = lambda x: x


@deviation(BIGVGAN, "resblocks.0: has 5 activations, too few")
def _too_few_activations(m):
    m.resblocks[0].activations = m.resblocks[0].activations[:5]


@deviation(BIGVGAN, "resblocks.0: has 7 activations for 6 convolutions")
def _too_many_activations(m):
    m.resblocks[0].activations.append(m.resblocks[0].activations[0])


@deviation(BIGVGAN, "ups.0: expected one layer, got 2")
def _two_upsamplings_in_one(m):
    m.ups[0].append(m.ups[0][0])


@deviation(BIGVGAN, "unknown submodules cond")
def _condition_of_a_bigvgan(m):
    m.cond = conv(10, 32, 1)


@pytest.mark.parametrize("name", DEVIATIONS)
def test_refused_with_the_reason(name):
    config, change, reason = DEVIATIONS[name]
    model = build(config)
    describe(model)
    change(model)
    with pytest.raises(Unrecognised, match=reason):
        describe(model)
    outcome = patch(model)
    assert [m.status for m in outcome] == ["refused"]
    assert "forward" not in vars(model)


@pytest.mark.parametrize("name", ["hifigan", "hifigan-resblock2", "bigvgan"])
def test_any_layer_of_another_kind_is_refused(name):
    """Replaced one after the other: a sentence each time, no crash and no silent acceptance."""
    model = build(CONFIGS[name])
    outline = {"conv_pre", "ups", "resblocks", "conv_post", "activation_post"}
    for path, layer in list(model.named_modules()):
        if path:
            parent = model.get_submodule(path.rpartition(".")[0])
            for other in (nn.Identity(), nn.Linear(2, 2)):
                setattr(parent, path.rpartition(".")[2], other)
                with pytest.raises(Unrecognised) as refusal:
                    describe(model)
                named = str(refusal.value)
                assert path in named or path.rpartition(".")[0] in named or path in outline, named
            setattr(parent, path.rpartition(".")[2], layer)
    describe(model)


@pytest.mark.parametrize("name", ["hifigan", "hifigan-resblock2", "bigvgan"])
def test_a_layer_removed_is_refused(name):
    model = build(CONFIGS[name])
    for path, layer in list(model.named_modules()):
        parent = model.get_submodule(path.rpartition(".")[0])
        last = path.rpartition(".")[2]
        if not path or last == "cond" or isinstance(parent, nn.ModuleList):
            continue
        delattr(parent, last)
        with pytest.raises(Unrecognised):
            describe(model)
        setattr(parent, last, layer)
        if last in ("act", "upsample", "downsample"):
            # Attributes were put back at the end: the order of submodules carries no meaning.
            describe(model)


class Louder(Generator):
    def forward(self, x, g=None):
        return 0.9 * super().forward(x, g)


class Gentler(Generator):
    """Another slope before ``conv_post``, as the first HiFi-GAN code had it."""

    def forward(self, x, g=None):
        leaky_relu = nn.functional.leaky_relu
        nn.functional.leaky_relu = lambda y, slope=0.1: leaky_relu(y, slope)
        try:
            return super().forward(x, g)
        finally:
            nn.functional.leaky_relu = leaky_relu


class Late(Generator):
    """A sample late."""

    def forward(self, x, g=None):
        return super().forward(x, g).roll(1, -1)


class Longer(Generator):
    def forward(self, x, g=None):
        return nn.functional.pad(super().forward(x, g), (0, 1))


class Several(Generator):
    def forward(self, x, g=None):
        return super().forward(x, g), x


class Other(Generator):
    def forward(self, x, g=None, *, noise):
        return super().forward(x, g) + noise


@pytest.mark.parametrize(
    "kind,reason",
    [
        (Louder, "computes something else.* dB"),
        (Gentler, "computes something else.* dB"),
        (Late, "computes something else.* dB"),
        (Longer, r"its forward returns \[1, 1, \d+\] where the family's returns"),
        (Several, "its forward returns tuple"),
        (Other, "its forward failed on a random input: TypeError.*noise"),
    ],
)
def test_a_subclass_that_computes_something_else(kind, reason):
    """Its structure is the family's: one short run beside the original tells."""
    model = build(HIFIGAN)
    model.__class__ = kind
    outcome = patch(model)
    assert [m.status for m in outcome] == ["refused"]
    assert re.search(reason, outcome.modules[0].why), outcome.modules[0].why
    assert "forward" not in vars(model)
    with pytest.raises(NotImplementedError, match=reason):
        patch(model, strict=True)


def test_a_subclass_that_computes_the_same():
    class Renamed(Generator):
        pass

    model = build(HIFIGAN)
    model.__class__ = Renamed
    assert patch(model)


def test_slightly_other_activation_constants_are_seen():
    """``no_div_by_zero`` is read from the activation, not assumed."""
    model = build(BIGVGAN)
    for layer in model.modules():
        if hasattr(layer, "alpha_logscale"):
            layer.no_div_by_zero = 0.5
    weights = extract(model, describe(model))
    act = model.activation_post.act
    expected = 1 / (act.beta.exp() + 0.5)
    assert torch.equal(weights["activation_post.inv_beta"], expected.detach())
