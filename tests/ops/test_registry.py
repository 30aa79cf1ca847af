"""Which implementation runs an operation, decided without a device."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from vocoder_kernels import native
from vocoder_kernels.ops import cuda_core, registry
from vocoder_kernels.ops.residual_branch import ResidualBranchDesc
from vocoder_kernels.ops.residual_conv import ResidualConvDesc
from vocoder_kernels.ops.residual_unit import ResidualUnitDesc
from vocoder_kernels.ops.support import Target
from vocoder_kernels.ops.tail import TailDesc

TURING = Target("cuda", 75, 40, 65536)
AMPERE = Target("cuda", 80, 108, 166912)
HOPPER = Target("cuda", 90, 132, 232448)
AMD = Target("hip", 0, 304, 65536)
FP16 = torch.float16


@pytest.fixture
def built(monkeypatch):
    """A core built for everything, as far as questions of support go."""
    core = SimpleNamespace(
        architectures=("75-real", "80-real", "90-real", "120-virtual"),
        conv_tiles=lambda source: [[64, 128, 128], [32, 64, 64]],
        conv_shared_bytes=lambda rows, reach: 128 * (rows + reach),
        unit_tiles=lambda C, snake: [[8, 1, 2, 2], [4, 1, 2, 3]] if C in (16, 64) else [],
        unit_rows=lambda C, snake, tile, convs, K: (256, 128)[tile] - (K - 1),
        unit_shared_bytes=lambda C, snake, tile, convs, K, d: (
            144 * ((256, 128)[tile] + d * (K - 1))
        ),
        branch_tiles=lambda C: [[4, 1, 12, 2], [4, 1, 11, 2], [8, 1, 4, 2]] if C == 16 else [],
        branch_shared_bytes=lambda C, tile, margin: 48 * ((768, 704, 512)[tile] + 2 * margin),
    )
    monkeypatch.setattr(native, "has_cuda", lambda: True)
    monkeypatch.setattr(native, "extension", lambda: SimpleNamespace(cuda_kernels=core))
    for cached in (
        "cuda_conv.conv_tiles",
        "residual_unit.cuda_launch._tiles",
        "residual_branch.cuda_launch._tiles",
    ):
        module, name = cached.rsplit(".", 1)
        owner = __import__(f"vocoder_kernels.ops.{module}", fromlist=[name])
        getattr(owner, name).cache_clear()
        monkeypatch.setattr(owner, name, getattr(owner, name).__wrapped__)


def conv(dtype=FP16, **options):
    return ResidualConvDesc(256, 256, (11, 7, 3), (5, 5, 5), dtype, **options)


@pytest.mark.parametrize(
    "listed,arch,runs",
    [
        (("86-real",), 86, True),
        (("86-real",), 89, True),  # machine code runs on later minor versions
        (("86-real",), 80, False),
        (("80-real",), 90, False),
        (("80-virtual",), 90, True),  # PTX on anything later
        (("90-virtual",), 86, False),
        (("75",), 75, True),
        (("75",), 120, True),
        (("90a-real",), 90, True),
        (("native",), 80, False),
    ],
)
def test_architectures_a_build_serves(listed, arch, runs):
    assert cuda_core.built_for(listed, arch) is runs


def test_without_a_core_the_reason_says_so(monkeypatch):
    monkeypatch.setattr(native, "has_cuda", lambda: False)
    name, support = registry.choose("residual_unit", ResidualUnitDesc(64, (3,), (1,), FP16), AMPERE)
    assert name == "" and not support
    assert "nvcc" in support.reason


def test_an_architecture_left_out_is_named(built, monkeypatch):
    monkeypatch.setattr(cuda_core.core(), "architectures", ("90-real",))
    support = registry.operation("residual_conv", "cuda").can_run(conv(), AMPERE)
    assert not support and "8.0" in support.reason and "90-real" in support.reason


def test_preference_follows_the_matrix_units(built):
    for target in (AMPERE, HOPPER):
        assert registry.preferred("residual_conv", target)[0] == "triton"
    for operation in registry.OPERATIONS:
        assert registry.preferred(operation, TURING)[0] == "cuda"


@pytest.mark.parametrize("target", (TURING, AMPERE, HOPPER))
def test_half_precision_runs_and_others_say_why_not(built, target):
    module = registry.operation("residual_conv", "cuda")
    assert module.can_run(conv(), target)
    refused = module.can_run(conv(torch.float32), target)
    assert not refused and "float32" in refused.reason
    assert bool(module.can_run(conv(torch.bfloat16), target)) is (target.arch >= 80)


@pytest.mark.parametrize("slope", (0.0, -0.1, 1.5))
def test_a_residual_is_recovered_from_slopes_up_to_one(built, slope):
    module = registry.operation("residual_conv", "cuda")
    assert module.can_run(conv(residual=True, residual_slope=0.1), TURING)
    refused = module.can_run(conv(residual=True, residual_slope=slope), TURING)
    assert not refused and str(slope) in refused.reason


def test_a_mean_fills_the_device_with_one_output(built):
    module = registry.operation("residual_conv", "cuda")
    tiles = [module.choose_config(conv(mean=m), 1, 2500, TURING).rows for m in (False, True)]
    assert tiles == [64, 64]
    tiles = [module.choose_config(conv(mean=m), 1, 1000, TURING).rows for m in (False, True)]
    assert tiles == [64, 32]


def test_a_mean_is_written_once(built, monkeypatch):
    """What reaches the core: three inputs and residuals, the outputs beside the first."""
    sent = {}
    monkeypatch.setattr(cuda_core.core(), "conv", lambda **arguments: sent.update(arguments), False)
    module = registry.operation("residual_conv", "cuda")
    monkeypatch.setattr(module, "place_of", lambda tensor: {"device": 0, "stream": 0})
    desc = ResidualConvDesc(
        32, 32, (3, 7, 1), (1, 2, 1), FP16, residual=True, residual_slope=0.25, mean=True,
        stream=True,
    )  # fmt: skip
    weights = [torch.zeros(32, 32, k) for k in desc.K]
    xs, residuals = ([torch.zeros(1, 8, 32, dtype=FP16) for _ in desc.K] for _ in range(2))
    stream, active = torch.zeros(1, 8, 32), torch.zeros(1, 8, 32, dtype=FP16)
    arguments = (module.pack(weights, FP16), torch.zeros(3, 32), residuals, torch.zeros(1, 2))
    config = module.choose_config(desc, 1, 8, TURING)
    module.launch(desc, config, xs, *arguments, [stream], [active])
    assert sent["mean"] is True and sent["undo"] == 4.0
    columns = list(zip(*sent["branches"]))
    assert columns[0] == tuple(x.data_ptr() for x in xs)
    assert columns[3] == tuple(r.data_ptr() for r in residuals)
    assert columns[4:6] == [(stream.data_ptr(), 0, 0), (active.data_ptr(), 0, 0)]
    with pytest.raises(ValueError, match="streams: expected 1 tensors, got 3"):
        module.launch(desc, config, xs, *arguments, [stream] * 3, [active])


def test_refusals_name_the_limit(built):
    unit = registry.operation("residual_unit", "cuda")
    assert "40 channels" in unit.can_run(ResidualUnitDesc(40, (3,), (1,), FP16), AMPERE).reason
    assert "odd" in unit.can_run(ResidualUnitDesc(64, (4,), (1,), FP16), AMPERE).reason
    far = ResidualUnitDesc(64, (11,), (99,), FP16)
    assert "shared memory" in unit.can_run(far, TURING).reason
    assert "hip" in unit.can_run(ResidualUnitDesc(64, (3,), (1,), FP16), AMD).reason
    tail = registry.operation("tail", "cuda")
    assert "float32 streams" in tail.can_run(TailDesc(24, 7, 1, FP16, snake=True), AMPERE).reason


def test_units_take_the_tile_that_fills_the_device(built):
    unit = registry.operation("residual_unit", "cuda")
    desc = ResidualUnitDesc(64, (11, 7, 3), (1, 1, 1), FP16)
    assert unit.choose_config(desc, 1, 60000, AMPERE).index == 0
    assert unit.choose_config(desc, 1, 3000, AMPERE).index == 1
    assert unit.choose_config(desc, 1, 60000, TURING).index == 1  # two CTAs share 64 KiB


def branch(C=16, dilation=(1, 3, 5), **options):
    return ResidualBranchDesc(C, (11, 7, 3), (dilation,) * 3, FP16, **options)


def test_refusals_of_whole_branches_name_the_limit(built):
    whole = registry.operation("residual_branch", "cuda")
    assert whole.can_run(branch(), TURING) and whole.can_run(branch(), AMPERE)
    assert "64 channels" in whole.can_run(branch(64), AMPERE).reason
    assert "1 to 4 units" in whole.can_run(branch(dilation=(1,) * 5), AMPERE).reason
    assert "one or two convolutions" in whole.can_run(branch(convs=3), AMPERE).reason
    assert "halo of 470" in whole.can_run(branch(dilation=(1, 1, 89)), AMPERE).reason
    assert "float32" in whole.can_run(replace(branch(), dtype=torch.float32), AMPERE).reason
    assert "odd" in whole.can_run(replace(branch(), K=(11, 7, 4)), AMPERE).reason
    assert "above 1" in whole.can_run(branch(slope=2.0), AMPERE).reason


def test_whole_branches_take_the_tile_that_fills_the_device(built):
    whole = registry.operation("residual_branch", "cuda")
    assert whole.choose_config(branch(), 1, 240_000, AMPERE).index == 0
    assert whole.choose_config(branch(), 1, 14_400, AMPERE).index == 2
    # Of the larger tiles 64 KiB hold one CTA of four warps.
    assert whole.choose_config(branch(), 1, 240_000, TURING).index == 2


def test_an_unknown_pair_is_named():
    with pytest.raises(KeyError, match="residual_unit by triton"):
        registry.operation("residual_unit", "triton")
