"""Weights that change after patching: every way upstream and users have of changing them."""

from __future__ import annotations

import time

import pytest
import torch
from reference import NORMS, build
from torch import nn
from torch.nn.utils import parametrize

from vocoder_kernels import patch, report
from vocoder_kernels.patching.watch import Snapshot


def builds(case) -> tuple[float, float]:
    counters = case.state.statistics
    return counters.get("builds", 0), counters.get("updates", 0)


@pytest.mark.parametrize("norm", NORMS)
def test_weight_norm_of_every_kind(make_case, backend, norm):
    case = make_case("bigvgan", norm=norm)
    assert patch(case.model)
    case.assert_ours()


def test_load_state_dict_in_place(case, backend):
    patch(case.model)
    case.assert_ours()
    case.model.load_state_dict(build(case.config, seed=7, norm="old").state_dict())
    case.assert_ours()
    assert builds(case) == (1, 1)


def test_load_state_dict_assigning(hifigan, backend):
    patch(hifigan.model)
    state = build(hifigan.config, seed=7).state_dict()
    hifigan.model.load_state_dict(state, assign=True)
    hifigan.assert_ours()


def test_in_place_write_of_one_number(hifigan, backend):
    patch(hifigan.model)
    with torch.no_grad():
        hifigan.model.resblocks[-1].convs2[-1].bias[0] += 0.25
    hifigan.assert_ours()


def test_unchanged_weights_are_read_once(case, backend):
    patch(case.model)
    for _ in range(3):
        case.assert_ours()
    assert builds(case) == (1, 0)


@pytest.mark.parametrize("norm", ["old", "parametrized"])
def test_weight_norm_removed_after_patching(make_case, backend, norm):
    case = make_case("bigvgan", norm=norm)
    patch(case.model)
    for layer in case.model.modules():
        if hasattr(layer, "weight_g"):
            nn.utils.remove_weight_norm(layer)
        elif parametrize.is_parametrized(layer):
            parametrize.remove_parametrizations(layer, "weight")
    case.assert_ours()
    assert builds(case) == (1, 1)


def test_weight_norm_applied_after_patching(hifigan, backend):
    patch(hifigan.model)
    nn.utils.parametrizations.weight_norm(hifigan.model.ups[0])
    with torch.no_grad():
        hifigan.model.ups[0].parametrizations.weight.original0.mul_(1.5)
    hifigan.assert_ours()


def test_half_and_back(case, fake_backend):
    """Under old-style weight norm the plain ``.weight`` stays fp32: it must not be used."""
    patch(case.model)
    case.assert_ours()
    case.model.half()
    full = case.x, case.g
    case.x = case.x.half()
    case.g = None if case.g is None else case.g.half()
    case.assert_ours()
    case.model.float()
    case.x, case.g = full
    case.assert_ours()
    assert builds(case) == (3, 0)


def test_rounding_through_half_is_seen(make_case, backend):
    """float -> half -> float ends in the same dtype, often at the same addresses."""
    case = make_case("hifigan", norm="old")
    patch(case.model)
    before = case()
    case.model.half().float()
    case.assert_ours()
    assert not torch.equal(case(), before)


def test_load_state_dict_after_half_and_to(case, fake_backend):
    """What the web UI and api.py do with a model that was patched on creation."""
    patch(case.model)
    case.model.half().to("cpu")
    state = build(case.config, seed=5, norm="old").state_dict()
    case.model.load_state_dict(state, strict=False)
    case.x = case.x.half()
    case.g = None if case.g is None else case.g.half()
    case.assert_ours()


def test_unsupported_dtype_runs_the_original_until_it_is_left(hifigan, backend):
    patch(hifigan.model)
    hifigan.model.double()
    x, g = hifigan.x.double(), hifigan.g.double()
    hifigan.assert_original("float64", x, g)
    assert report(hifigan.model).modules[0].status == "fell back"
    assert report(hifigan.model).modules[0].dtype == "float64"
    hifigan.model.float()
    hifigan.assert_ours()
    assert report(hifigan.model)


def test_unsupported_device_runs_the_original(hifigan, backend):
    patch(hifigan.model)
    hifigan.model.to("meta")
    out = hifigan(hifigan.x.to("meta"), hifigan.g.to("meta"))
    assert out.device.type == "meta" and hifigan.accelerated() == 0
    assert any("meta" in why for why in hifigan.state.originals), hifigan.state


def test_mixed_dtypes_run_the_original(hifigan, backend):
    patch(hifigan.model)
    hifigan.model.cond.double()
    x, g = hifigan.x, hifigan.g
    assert hifigan(x).shape[0] == 1
    assert any("one dtype" in why for why in hifigan.state.originals), hifigan.state
    with pytest.raises(RuntimeError):
        hifigan(x, g)


def test_replaced_submodule(hifigan, backend):
    patch(hifigan.model)
    old = hifigan.model.conv_post
    new = nn.Conv1d(old.in_channels, 1, 9, padding=4)
    hifigan.model.conv_post = new
    hifigan.assert_ours()
    assert builds(hifigan) == (2, 0)


def test_hook_inside_runs_the_original_until_removed(hifigan, backend):
    patch(hifigan.model)
    seen = []
    handle = hifigan.model.resblocks[0].register_forward_hook(lambda *_: seen.append(1))
    hifigan.assert_original("forward hooks")
    assert seen
    handle.remove()
    hifigan.assert_ours()


def test_hooks_on_the_vocoder_itself_still_run(hifigan, backend):
    patch(hifigan.model)
    seen = []
    hifigan.model.register_forward_hook(lambda *_: seen.append(1))
    hifigan.assert_ours()
    assert seen == [1]


def test_unknown_submodule_runs_the_original(hifigan, backend):
    patch(hifigan.model)
    hifigan.model.extra = nn.Linear(2, 2)
    hifigan.assert_original("unknown submodules extra")


def test_inference_tensors_run_the_original(make_case, backend):
    with torch.inference_mode():
        case = make_case("hifigan")
        outcome = patch(case.model)
        case.model(*case.args)
    assert not outcome and "inference tensor" in outcome.modules[0].why
    case.assert_original("inference tensor")


def test_optimiser_step(hifigan, backend):
    patch(hifigan.model)
    optimiser = torch.optim.SGD(hifigan.model.parameters(), lr=0.01)
    hifigan.model.train()
    hifigan.model(*hifigan.args).square().mean().backward()
    optimiser.step()
    hifigan.model.eval()
    hifigan.assert_ours()


def test_swapping_parameters_of_torch_future(hifigan, backend):
    patch(hifigan.model)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        hifigan.model.half().float()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    hifigan.assert_ours()


def test_snapshot_does_not_keep_old_weights(hifigan):
    weight = hifigan.model.conv_pre.weight
    snapshot = Snapshot(hifigan.model)
    storage = weight.untyped_storage()
    held = torch.multiprocessing.reductions.StorageWeakRef(storage)
    del storage
    hifigan.model.half()
    assert held.expired() and not snapshot.matches()


def test_watching_is_cheap():
    """A v2 generator with weight norm: 290 tensors in 146 modules."""
    model = build(
        {
            "initial_channel": 192,
            "resblock": "1",
            "resblock_kernel_sizes": (3, 7, 11),
            "resblock_dilation_sizes": ((1, 3, 5),) * 3,
            "upsample_rates": (10, 8, 2, 2, 2),
            "upsample_initial_channel": 32,
            "upsample_kernel_sizes": (16, 16, 8, 2, 2),
        },
        norm="old",
    )
    snapshot = Snapshot(model)
    times = []
    for _ in range(200):
        start = time.perf_counter()
        assert snapshot.matches()
        times.append(time.perf_counter() - start)
    best_us = min(times) * 1e6
    print(f"fingerprint of {len(snapshot._held)} tensors: {best_us:.0f} us")
    assert best_us < 500
