"""patch, unpatch, patched, report: what they find and what they leave behind."""

from __future__ import annotations

import gc
import types
import weakref

import pytest
import torch
from reference import CONFIGS, build
from torch import nn

from vocoder_kernels import Options, compile, patch, patched, report, unpatch


def test_same_audio_same_model(case, backend):
    model = case.model
    keys, names = list(model.state_dict()), [n for n, _ in model.named_parameters()]
    kind, attributes = model.__class__, set(vars(model))
    outcome = patch(model)
    assert outcome and outcome.modules[0].status == "patched", str(outcome)
    assert model.__class__ is kind and isinstance(model, kind)
    assert list(model.state_dict()) == keys
    assert [n for n, _ in model.named_parameters()] == names
    assert set(vars(model)) == attributes | {"forward"}
    case.assert_ours()


def test_unpatch_restores_exactly(case, backend):
    attributes = dict(vars(case.model))
    before = case()
    patch(case.model)
    case()
    unpatch(case.model)
    assert vars(case.model).keys() == attributes.keys()
    assert all(vars(case.model)[name] is value for name, value in attributes.items())
    assert torch.equal(case(), before)
    assert report(case.model).modules[0].status == "not patched"
    unpatch(case.model)


def test_unpatch_restores_a_forward_of_the_instance(hifigan, backend):
    calls = []

    def counted(x, g=None):
        calls.append(1)
        return type(hifigan.model).forward(hifigan.model, x, g)

    hifigan.model.forward = counted
    assert not patch(hifigan.model, verify=False)
    assert "replaced on the instance" in report(hifigan.model).modules[0].why
    assert patch(hifigan.model)
    calls.clear()
    hifigan.assert_ours()
    assert not calls
    unpatch(hifigan.model)
    assert hifigan.model.forward is counted


def test_a_later_wrapper_stays_and_works(hifigan, backend):
    patch(hifigan.model)
    ours = hifigan.model.forward
    hifigan.model.forward = lambda x, g=None: ours(x, g) * 2
    assert torch.allclose(hifigan(), 2 * hifigan.original(), atol=1e-4)
    unpatch(hifigan.model)
    before = hifigan.original()
    assert torch.equal(hifigan(), 2 * before)


def test_patch_twice_wraps_once_and_takes_options(hifigan, backend):
    patch(hifigan.model)
    rebound = hifigan.model.forward
    outcome = patch(hifigan.model, chunk_frames=4)
    assert hifigan.model.forward is rebound and len(outcome) == 1
    hifigan.assert_ours()
    patch(hifigan.model, enabled=False)
    hifigan.assert_original("disabled by option")
    assert not report(hifigan.model)
    patch(hifigan.model)
    hifigan.assert_ours()


def test_patch_again_sees_writes_through_data(hifigan, backend):
    patch(hifigan.model)
    hifigan.model.conv_post.weight.data.mul_(0.5)
    patch(hifigan.model)
    hifigan.assert_ours()


def test_patched_restores_what_was_before(hifigan, backend):
    with patched(hifigan.model) as outcome:
        assert outcome
        hifigan.assert_ours()
    assert "forward" not in vars(hifigan.model)
    patch(hifigan.model, chunk_frames=5)
    rebound = hifigan.model.forward
    with patched(hifigan.model, enabled=False):
        hifigan.assert_original("disabled by option")
    assert hifigan.model.forward is rebound
    hifigan.assert_ours()


def test_patched_restores_after_an_error(hifigan, backend):
    with pytest.raises(KeyError), patched(hifigan.model):
        raise KeyError
    assert "forward" not in vars(hifigan.model)


def test_finds_vocoders_at_any_depth(backend):
    model = nn.ModuleDict(
        {
            "a": nn.Sequential(build(CONFIGS["hifigan"]), nn.Linear(2, 2)),
            "b": build(CONFIGS["bigvgan"]),
        }
    )
    outcome = patch(model)
    assert [m.path for m in outcome] == ["a.0", "b"]
    assert [m.family for m in outcome] == ["hifigan", "bigvgan"]
    unpatch(model)
    assert not any("forward" in vars(m) for m in model.modules())


def test_shared_vocoder_is_patched_once(backend):
    vocoder = build(CONFIGS["hifigan"])
    speakers = {
        name: types.SimpleNamespace(sovits=types.SimpleNamespace(vq_model=nn.ModuleList([vocoder])))
        for name in ("ann", "bob")
    }
    outcome = patch(speakers)
    assert [m.path for m in outcome] == ["['ann'].sovits.vq_model.0"]
    assert [m.status for m in patch([vocoder, speakers])] == ["patched"]
    unpatch(speakers["bob"])
    assert "forward" not in vars(vocoder)


@pytest.mark.parametrize("nothing", [None, 3, "model", torch.zeros(2), nn.Linear])
def test_what_can_hold_no_vocoder_is_a_type_error(nothing):
    with pytest.raises(TypeError, match="expected a vocoder"):
        patch(nothing)


def test_no_vocoder_found():
    assert not patch(nn.Linear(2, 2)) and "no vocoder" in str(patch([]))
    with pytest.raises(NotImplementedError, match="found no vocoder in Linear"):
        patch(nn.Linear(2, 2), strict=True)


def test_options_are_checked(hifigan):
    with pytest.raises(TypeError, match="unknown chunks"):
        patch(hifigan.model, chunks=3)
    with pytest.raises(TypeError, match="unknown chunks"):
        patch(hifigan.model, Options(), chunks=3)
    with pytest.raises(ValueError, match="backend"):
        patch(hifigan.model, backend="tpu")
    with pytest.raises(TypeError, match="expected Options"):
        patch(hifigan.model, {"strict": True})
    assert "forward" not in vars(hifigan.model)


def test_options_object_is_the_base(hifigan, backend):
    patch(hifigan.model, Options(enabled=False), enabled=True)
    hifigan.assert_ours()


def test_backend_of_another_device_falls_back(hifigan):
    outcome = patch(hifigan.model, backend="cuda")
    assert not outcome and "the model is on cpu" in outcome.modules[0].why
    hifigan.assert_original("the model is on cpu")
    with pytest.raises(NotImplementedError, match="the model is on cpu"):
        patch(build(CONFIGS["hifigan"]), backend="cuda", strict=True)


def test_strict_refusal_leaves_the_module_alone():
    model = build(CONFIGS["hifigan"])
    with pytest.raises(NotImplementedError, match="on cpu"):
        patch(model, backend="cuda", strict=True)
    assert "forward" not in vars(model)


def test_memory_goes_with_the_model_at_once(fake_backend):
    model = build(CONFIGS["hifigan"])
    patch(model)
    executable = weakref.ref(fake_backend.compiled.pop())
    gone = weakref.ref(model)
    gc.disable()
    try:
        del model
        assert gone() is None and executable() is None
    finally:
        gc.enable()


def test_without_verification_the_first_call_builds(hifigan, fake_backend):
    assert patch(hifigan.model, verify=False)
    hifigan.assert_ours()
    assert len(fake_backend.compiled) == 1


def test_report_prints(case, backend):
    patch(case.model)
    case()
    case.model.train()
    case()
    text = str(report(case.model))
    for word in ("(model)", type(case.model).__name__, "fell back", "training mode", "float32"):
        assert word in text


def test_compile_leaves_the_module_alone(case, backend):
    engine = compile(case.model)
    assert "forward" not in vars(case.model)
    assert (engine(*case.args) - case()).abs().max() < 1e-5
    with pytest.raises(NotImplementedError, match="outline"):
        compile(nn.Linear(2, 2))
