"""Copies, pickles and saved files of a patched vocoder: those of the original, free of us."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys

import pytest
import torch
from reference import build

from vocoder_kernels import patch, report, unpatch


def saved(model, **settings):
    file = io.BytesIO()
    torch.save(model, file, **settings)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": saved,
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_an_independent_original(case, backend, how):
    patch(case.model)
    case.assert_ours()
    before = case.accelerated()
    twin = COPIES[how](case.model)
    assert type(twin) is type(case.model)
    assert report(twin).modules[0].status == "not patched"
    with torch.no_grad():
        assert torch.equal(twin(*case.args), case.original())
        assert case.accelerated() == before
        for parameter in twin.parameters():
            parameter.zero_()
    case.assert_ours()
    twin.train()
    assert not case.model.training


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_can_be_patched_and_outlives_its_model(make_case, backend, how):
    case = make_case("hifigan")
    patch(case.model)
    case.model = COPIES[how](case.model)
    patch(case.model)
    case.assert_ours()
    unpatch(case.model)
    with torch.no_grad():
        assert torch.equal(case(), case.original())


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_of_a_model_around_it(hifigan, backend, how):
    patch(hifigan.model)
    parent = torch.nn.ModuleDict({"dec": hifigan.model})
    twin = COPIES[how](parent)
    with torch.no_grad():
        assert torch.equal(twin["dec"](*hifigan.args), hifigan.original())
    assert twin["dec"].forward.__self__ is twin["dec"]
    hifigan.assert_ours()


def test_the_pickle_does_not_name_this_package(hifigan, backend):
    before = pickle.dumps(hifigan.model)
    patch(hifigan.model)
    hifigan()
    pickled = pickle.dumps(hifigan.model)
    assert b"vocoder_kernels" not in pickled
    assert len(pickled) < len(before) + 200


def test_the_state_dict_is_the_originals(case, backend):
    before = {name: t.clone() for name, t in case.model.state_dict().items()}
    patch(case.model)
    case()
    after = case.model.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], t) for name, t in before.items())
    assert all(
        t.data_ptr() == after[name].data_ptr() for name, t in case.model.state_dict().items()
    )
    other = build(case.config, seed=3, norm="old")
    assert not other.load_state_dict(after).missing_keys


def test_a_shallow_copy_says_what_to_do_once_its_model_is_gone(hifigan, backend):
    patch(hifigan.model)
    shallow = copy.copy(hifigan.model)
    with torch.no_grad():
        assert torch.equal(shallow(*hifigan.args), hifigan())
    x, g = hifigan.args
    hifigan.model = None
    with pytest.raises(RuntimeError, match="use copy.deepcopy, or unpatch before copying"):
        shallow(x, g)


def test_unpickling_needs_no_patching_state(hifigan, backend, tmp_path):
    """A process that never imports the package reads the file."""
    patch(hifigan.model)
    torch.save(hifigan.model, tmp_path / "model.pt")
    code = (
        "import sys, torch\n"
        f"sys.path[:0] = {[p for p in sys.path if p.endswith('tests')]!r}\n"
        f"model = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False)\n"
        "model(torch.zeros(1, 12, 3))\n"
        "assert not any(name.startswith('vocoder_kernels') for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
