"""A patched vocoder on the device through casts, moves, new weights, copies and unpatching."""

from __future__ import annotations

import copy
import gc

import pytest
import torch
from vocoders import BRIEF, assert_contract, case

from vocoder_kernels import patch, report, unpatch


@pytest.fixture(params=sorted(BRIEF))
def c(request):
    found = case(BRIEF[request.param], torch.float32, frames=6, norm="old")
    assert patch(found.model), str(report(found.model))
    return found


def state(c):
    (found,) = report(c.model).modules
    return found


def assert_ours(c):
    """The next call is accelerated and right for the weights as they are."""
    before = state(c).statistics.get("accelerated", 0)
    with torch.no_grad():
        got = c.model(*c.args)
    assert state(c).statistics["accelerated"] == before + 1, str(report(c.model))
    assert_contract(got, c.eager(), c.exact())


def cast(c, dtype, device="cuda"):
    c.model.to(device=device, dtype=dtype)
    c.x = c.x.to(device, dtype)
    c.g = None if c.g is None else c.g.to(device, dtype)


def test_casts_and_moves(c):
    assert_ours(c)
    for dtype in (torch.float16, torch.float32):
        cast(c, dtype)
        assert_ours(c)
        assert state(c).dtype == str(dtype).replace("torch.", "")
    with torch.no_grad():
        on_device = c.model(*c.args)
    cast(c, torch.float32, "cpu")
    with torch.no_grad():
        on_host = c.model(*c.args)
    assert (on_host - on_device.cpu()).abs().max() < 1e-4
    cast(c, torch.float32)
    assert_ours(c)


def test_new_weights_keep_graphs(c):
    assert_ours(c)
    captures = state(c).statistics["captures"]
    weights = {n: 0.9 * v for n, v in c.model.state_dict().items() if "filter" not in n}
    c.model.load_state_dict(weights, strict=False)
    assert_ours(c)
    after = state(c).statistics
    assert after["captures"] == captures and after["updates"] == 1 and after["builds"] == 1


def test_new_filters_are_seen():
    """Some kernels take them by value."""
    c = case(BRIEF["bigvgan"], torch.float16, frames=6)
    patch(c.model)
    assert_ours(c)
    with torch.no_grad():
        for name, buffer in c.model.named_buffers():
            if "filter" in name:
                buffer.mul_(0.5)
    assert_ours(c)


def test_unpatch_gives_everything_back(c):
    names = set(c.model.state_dict())
    assert_ours(c)
    patched_bytes = torch.cuda.memory_allocated()
    pool = state(c).statistics["pool_bytes"]
    unpatch(c.model)
    gc.collect()
    assert torch.cuda.memory_allocated() <= patched_bytes - pool
    assert "forward" not in vars(c.model) and set(c.model.state_dict()) == names
    with torch.no_grad():
        assert torch.equal(c.model(*c.args), c.eager())


def test_copies_are_independent(c):
    assert_ours(c)
    twin = copy.deepcopy(c.model)
    assert not report(twin)
    patch(twin)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    assert_ours(c)


def test_a_deleted_model_frees_its_memory():
    """From the second on: libraries keep workspaces of their own from the first."""
    allocated = []
    for _ in range(3):
        c = case(BRIEF["hifigan"], torch.float16, frames=6)
        patch(c.model)
        with torch.no_grad():
            c.model(*c.args)
        del c
        gc.collect()
        allocated.append(torch.cuda.memory_allocated())
    assert allocated[1] == allocated[2]


def test_gradients_run_the_original(c):
    out = c.model(*c.args)
    assert out.requires_grad
    assert any("gradients" in cause for cause in state(c).originals)
