"""Two devices in one process: everything follows the model's, whichever is current."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from vocoders import BRIEF, Case, assert_contract, case

from vocoder_kernels import patch, report, unpatch

pytestmark = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason="needs two CUDA devices: PyTorch sees fewer"
)
FIRST, SECOND = (torch.device("cuda", index) for index in range(2))


@pytest.fixture(params=sorted(BRIEF))
def name(request):
    return request.param


def on(device: torch.device, name: str, dtype: torch.dtype = torch.float16) -> Case:
    """The same vocoder and input on any device."""
    torch.manual_seed(0)
    c = case(BRIEF[name], dtype, frames=20)
    return move(c, device)


def move(c: Case, device: torch.device) -> Case:
    c.model.to(device)
    c.x = c.x.to(device)
    c.g = None if c.g is None else c.g.to(device)
    return c


def ours(c: Case) -> torch.Tensor:
    """What the patched model gives, accelerated."""
    before = report(c.model).modules[0].statistics.get("accelerated", 0)
    with torch.no_grad():
        got = c.model(*c.args)
    (state,) = report(c.model).modules
    assert state.statistics["accelerated"] == before + 1, str(report(c.model))
    assert state.device == str(got.device) == str(c.x.device)
    return got


@pytest.mark.parametrize("options", ({}, {"cuda_graphs": False}, {"chunk_frames": 7}))
def test_a_device_that_is_not_current(name, options):
    expected = on(FIRST, name).engine(**options)(*on(FIRST, name).args)
    c = on(SECOND, name)
    with torch.cuda.device(FIRST):
        engine = c.engine(**options)
        for _ in range(4):
            got = engine(*c.args)
            assert torch.cuda.current_device() == FIRST.index
        assert got.device == SECOND
        assert_contract(got, c.eager(), c.exact())
        torch.cuda.synchronize(SECOND)
        assert [t.runs for t in engine.window_times() if t.last_us is not None]
        engine.release()
    names = {torch.cuda.get_device_name(device) for device in (FIRST, SECOND)}
    if len(names) == 1:
        assert torch.equal(got.cpu(), expected.cpu())


def test_the_callers_stream_of_that_device(name):
    c = on(SECOND, name)
    expected = c.engine()(*c.args)
    torch.cuda.synchronize(SECOND)
    stream = torch.cuda.Stream(SECOND)
    with torch.cuda.stream(stream):
        engine = c.engine()
        with torch.cuda.device(FIRST):
            outs = [engine(*c.args) for _ in range(3)]
    stream.synchronize()
    assert all(torch.equal(out, expected) for out in outs)


def test_two_devices_from_two_threads_at_once(name):
    cases = [on(device, name) for device in (FIRST, SECOND)]
    expected = [c.engine()(*c.args) for c in cases]
    for device in (FIRST, SECOND):
        torch.cuda.synchronize(device)
    barrier = threading.Barrier(2)

    def calls(c: Case) -> list[torch.Tensor]:
        engine = c.engine()
        barrier.wait()
        return [engine(*c.args) for _ in range(5)]

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(calls, cases))
    for outs, want in zip(results, expected):
        assert all(torch.equal(out, want) for out in outs)


def test_a_move_gives_the_first_device_back(name):
    c = on(FIRST, name, torch.float32)
    patch(c.model)
    ours(c)
    held = torch.cuda.memory_allocated(FIRST)
    (state,) = report(c.model).modules
    ours_bytes = state.statistics["pool_bytes"] + state.statistics["packed_bytes"]
    move(c, SECOND)
    got = ours(c)
    assert_contract(got, c.eager(), c.exact())
    assert torch.cuda.memory_allocated(FIRST) <= held - ours_bytes
    on_second = torch.cuda.memory_allocated(SECOND)
    unpatch(c.model)
    assert torch.cuda.memory_allocated(SECOND) < on_second
    with torch.no_grad():
        assert torch.equal(c.model(*c.args), c.eager())


def test_an_input_on_the_other_device_is_eagers_error(name):
    c = on(SECOND, name)
    args = tuple(a.to(FIRST) for a in c.args)
    with torch.no_grad(), pytest.raises(RuntimeError) as expected:
        c.model(*args)
    patch(c.model)
    ours(c)
    with torch.no_grad(), pytest.raises(RuntimeError) as got:
        c.model(*args)
    assert str(got.value) == str(expected.value)
    ours(c)
