"""Every way to call the original, with the same result: shapes, broadcasting, names, layouts."""

from __future__ import annotations

import pytest
import torch

from vocoder_kernels import patch

X, G, VARYING = torch.randn(3, 12, 7), torch.randn(3, 10, 1), torch.randn(3, 10, 7)

ACCELERATED = {
    "batch": lambda m: m(X, G),
    "by name": lambda m: m(x=X, g=G),
    "the condition by name": lambda m: m(X, g=G),
    "no condition": lambda m: m(X),
    "no condition said": lambda m: m(X, None),
    "one condition for all": lambda m: m(X, G[:1]),
    "one input for all conditions": lambda m: m(X[:1], G),
    "unbatched": lambda m: m(X[0], G[0]),
    "unbatched, no condition": lambda m: m(X[0]),
    "unbatched input, batched condition": lambda m: m(X[0], G[:1]),
    "unbatched input, many conditions": lambda m: m(X[0], G),
    "batched input, unbatched condition": lambda m: m(X, G[0]),
    "transposed": lambda m: m(X.transpose(1, 2).contiguous().transpose(1, 2), G),
    "every other frame": lambda m: m(X[:, :, ::2], G),
    "rows backwards": lambda m: m(X.flip(0), G.flip(0)),
    "one frame repeated": lambda m: m(X[:, :, :1].expand(-1, -1, 9), G),
    "one row repeated": lambda m: m(X[:1].expand(3, -1, -1), G[:1].expand(3, -1, -1)),
    "a parameter": lambda m: m(torch.nn.Parameter(X), torch.nn.Parameter(G)),
    "an inference tensor": lambda m: m(inference(X), inference(G)),
}


def inference(tensor: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return tensor.clone()


@pytest.mark.parametrize("name", ACCELERATED)
def test_ours_gives_the_shape_and_values_of_eager(hifigan, backend, name):
    call = ACCELERATED[name]
    with torch.no_grad():
        expected = call(hifigan.model)
        patch(hifigan.model)
        before = hifigan.accelerated()
        got = call(hifigan.model)
    assert hifigan.accelerated() == before + 1, hifigan.state.originals
    assert got.shape == expected.shape and got.dtype == expected.dtype
    assert got.is_contiguous() and not got.is_inference()
    assert (got - expected).abs().max() < 1e-5


ORIGINAL = {
    "a condition that varies": (lambda m: m(X, VARYING), "varies"),
    "no frames": (lambda m: m(X[:, :, :0], G), "no rows or no frames"),
    "no rows": (lambda m: m(X[:0], G[:0]), "no rows or no frames"),
}


def outcome(call, model):
    try:
        with torch.no_grad():
            return call(model)
    except RuntimeError as error:
        return str(error)


@pytest.mark.parametrize("name", ORIGINAL)
def test_the_original_answers_what_only_it_can(hifigan, backend, name):
    call, why = ORIGINAL[name]
    expected = outcome(call, hifigan.model)
    patch(hifigan.model)
    got = outcome(call, hifigan.model)
    assert any(why in cause for cause in hifigan.state.originals), hifigan.state.originals
    same = torch.equal if isinstance(expected, torch.Tensor) else str.__eq__
    assert same(got, expected)


@pytest.mark.parametrize("call", [
    lambda m: m(),
    lambda m: m(X, G, 3),
    lambda m: m(X, condition=G),
    lambda m: m(X, x=X),
    lambda m: m(None),
    lambda m: m("mel"),
])  # fmt: skip
def test_calls_that_are_errors_stay_the_errors_they_were(hifigan, backend, call):
    with pytest.raises((TypeError, AttributeError)) as expected:
        call(hifigan.model)
    patch(hifigan.model)
    with pytest.raises(type(expected.value)) as got:
        call(hifigan.model)
    assert str(got.value) == str(expected.value)


@pytest.mark.parametrize("which", (0, 1))
def test_an_input_on_another_device_raises_what_it_raised(hifigan, backend, which):
    args = [a.to("meta") if i == which else a for i, a in enumerate(hifigan.args)]
    with pytest.raises(Exception) as expected:
        hifigan(*args)
    patch(hifigan.model)
    hifigan.assert_ours()
    with pytest.raises(type(expected.value)) as got:
        hifigan(*args)
    assert str(got.value) == str(expected.value)
    assert any("device" in cause for cause in hifigan.state.originals)
    hifigan.assert_ours()


def test_a_surplus_condition_by_the_signature(make_case, backend):
    case = make_case("bigvgan")
    patch(case.model)
    with pytest.raises(TypeError, match="takes 2 positional arguments but 3 were given"):
        case.model(case.x, G)
