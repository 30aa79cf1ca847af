"""What an engine takes, and the sentence for what it does not."""

from __future__ import annotations

import re

import pytest
import torch
from reference import CONFIGS, build, inputs
from torch_backend import TorchBackend, installed

from vocoder_kernels import patch


@pytest.fixture
def engine(torch_engine):
    return torch_engine("hifigan")


X, G = torch.randn(2, 12, 5), torch.randn(2, 10, 1)

BAD = {
    "wrong channels": ((X[:, :11], G), {}, ValueError, "expected [B, 12, T], got [2, 11, 5]"),
    "wrong rank": ((X[0], G), {}, ValueError, "expected [B, 12, T], got [12, 5]"),
    "four dimensions": ((X[None], G), {}, ValueError, "expected [B, 12, T], got [1, 2, 12, 5]"),
    "scalar": ((torch.tensor(1.0),), {}, ValueError, "expected [B, 12, T], got []"),
    "integers": ((X.int(), G), {}, TypeError, "expected torch.float32 as the model's weights"),
    "double": ((X.double(), G), {}, TypeError, "got torch.float64"),
    "complex": ((X.cfloat(), G), {}, TypeError, "got torch.complex64"),
    "device": ((X.to("meta"), G), {}, ValueError, "expected device cpu as the model's, got meta"),
    "a list": (([1.0],), {}, TypeError, "vocoder input: expected a tensor, got list"),
    "an array": ((X.numpy(),), {}, TypeError, "vocoder input: expected a tensor, got ndarray"),
    "g channels": ((X, G[:, :9]), {}, ValueError, "g: expected [B, 10, 1], got [2, 9, 1]"),
    "g rank": ((X, G[:, :, 0]), {}, ValueError, "g: expected [B, 10, 1], got [2, 10]"),
    "g over time": ((X, G.expand(2, 10, 5)), {}, ValueError, "g: expected [B, 10, 1]"),
    "g batch": ((X, torch.randn(3, 10, 1)), {}, ValueError, "batch 1 or 2 as the input's, got 3"),
    "g dtype": ((X, G.half()), {}, TypeError, "condition g: expected torch.float32"),
    "g device": ((X, G.to("meta")), {}, ValueError, "condition g: expected device cpu"),
    "g a list": ((X, [1.0]), {}, TypeError, "condition g: expected a tensor, got list"),
    "no rows": ((X[:0], G[:0]), {}, ValueError, "at least one row and one frame, got [0, 12, 5]"),
    "no frames": ((X[:, :, :0], G), {}, ValueError, "at least one row and one frame"),
    "too few lengths": ((X, G, [5]), {}, ValueError, "expected one per row (2), got 1"),
    "length 0": ((X, G, [5, 0]), {}, ValueError, "lengths[1]: expected 1 to 5, got 0"),
    "length 6": ((X, G, [6, 5]), {}, ValueError, "lengths[0]: expected 1 to 5, got 6"),
    "length -1": ((X, G, [5, -1]), {}, ValueError, "lengths[1]: expected 1 to 5, got -1"),
    "length 2.0": ((X, G, [2.0, 5]), {}, TypeError, "lengths[0]: expected a whole number"),
    "length True": ((X, G, [True, 5]), {}, TypeError, "lengths[0]: expected a whole number"),
    "lengths of float": ((X, G, torch.ones(2)), {}, TypeError, "lengths[0]: expected a whole"),
    "lengths of rank 0": ((X, G, torch.tensor(5)), {}, ValueError, "lengths: expected"),
    "lengths of rank 2": ((X, G, torch.ones(2, 1).int()), {}, ValueError, "lengths: expected"),
    "a number for lengths": ((X, G, 5), {}, TypeError, "lengths: expected one number per row"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_inputs_get_a_sentence(engine, name):
    arguments, keywords, kind, words = BAD[name]
    with pytest.raises(kind, match=re.escape(words)):
        engine(*arguments, **keywords)


def test_a_condition_for_a_vocoder_without(torch_engine):
    with pytest.raises(ValueError, match="has no speaker conditioning; call it without g"):
        torch_engine("hifigan-plain")(X, G)


@pytest.mark.parametrize(
    "lengths", [[3, 5], (3, 5), torch.tensor([3, 5]), torch.tensor([3, 5]).int()]
)
def test_lengths_in_any_form(engine, lengths):
    out = engine(X, G, lengths)
    assert out.shape == (2, 1, engine.vocoder.length(5))
    end = engine.vocoder.length(3)
    assert not out[0, :, end:].any() and out[0, 0, end - 1] != 0
    assert torch.equal(out[0:1, :, :end], engine(X[0:1, :, :3], G[0:1]))
    assert torch.equal(out[1:], engine(X[1:], G[1:]))


def test_g_of_one_row_is_every_rows(engine):
    assert torch.equal(engine(X, G[:1]), engine(X, G[:1].expand(2, -1, -1)))


def test_g_may_be_left_out_as_in_eager(engine):
    model = build(CONFIGS["hifigan"])
    with torch.no_grad():
        assert (engine(X) - model(X)).abs().max() < 1e-5


def test_the_output_is_fresh_and_needs_no_gradient(engine):
    with torch.inference_mode():
        first = engine(X, G)
    second = engine(X.requires_grad_(), G)
    X.requires_grad_(False)
    assert first.data_ptr() != second.data_ptr()
    assert not second.requires_grad and not first.is_inference()
    first.mul_(2)


def test_a_released_engine_says_so(engine):
    engine.release()
    with pytest.raises(RuntimeError, match="engine: called after release"):
        engine(X, G)
    engine.release()


def test_explanations_and_counters_print(engine):
    text = engine.explain(40)
    assert "hifigan: 12 channels in, hop 24" in text and "40 frames" in text
    assert engine.statistics()["packed_bytes"] > 0


MISUSE = {
    "wrong channels": ((X[:, :11], G), "expected [B, 12, T], got [2, 11, 5]"),
    "integers": ((X.long(), G), "expected torch.float32"),
    "wrong rank": ((X[None], G), "expected [B, 12, T]"),
    "g of another batch": ((X, torch.randn(3, 10, 1)), "batch 1 or 2 as the input's, got 3"),
    "g of other channels": ((X, G[:, :9]), "expected [B, 10, 1], got [2, 9, 1]"),
    "half for float": ((X.half(), G), "expected torch.float32 as the model's weights"),
}


@pytest.mark.parametrize("name", MISUSE)
def test_a_patched_module_explains_what_eager_would_crash_on(name):
    arguments, words = MISUSE[name]
    model = build(CONFIGS["hifigan"])
    with installed(TorchBackend()), torch.no_grad():
        with pytest.raises((RuntimeError, ValueError)):
            model(*arguments)
        patch(model)
        with pytest.raises((ValueError, TypeError), match=re.escape(words)):
            model(*arguments)
        x, g = inputs(CONFIGS["hifigan"], 4)
        model(x, g)


def test_a_surplus_condition_is_an_error_as_in_eager():
    model = build(CONFIGS["hifigan-plain"])
    with installed(TorchBackend()), torch.no_grad():
        with pytest.raises(AttributeError):
            model(X, G)
        patch(model)
        with pytest.raises(ValueError, match="has no speaker conditioning"):
            model(X, G)


@pytest.mark.parametrize("shape", [(0, 12, 5), (2, 12, 0)])
def test_empty_inputs_behave_as_eager(shape):
    model = build(CONFIGS["hifigan"])
    x, g = torch.randn(shape), torch.randn(shape[0], 10, 1)

    def outcome():
        try:
            with torch.no_grad():
                return tuple(model(x, g).shape)
        except RuntimeError as error:
            return str(error)

    before = outcome()
    with installed(TorchBackend()):
        patch(model)
        assert outcome() == before
