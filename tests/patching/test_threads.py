"""Many threads on one patched vocoder, as a server without a lock has them."""

from __future__ import annotations

import random
import threading
import time

import pytest
import torch
from reference import build, inputs

from vocoder_kernels import patch, report, unpatch


def together(*works):
    """Run all at once; raise what any of them raised."""
    failures = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(work,)) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive(), "a thread hangs"
    if failures:
        raise failures[0]


def test_every_caller_gets_its_own_audio(case, backend):
    patch(case.model)
    requests = [inputs(case.config, frames, seed=frames) for frames in (1, 4, 9, 16)]
    expected = [case(*(t for t in request if t is not None)) for request in requests]

    def client(start):
        def work():
            for i in range(8):
                which = (start + i) % len(requests)
                got = case(*(t for t in requests[which] if t is not None))
                assert torch.equal(got, expected[which])

        return work

    before = case.accelerated()
    together(*(client(n) for n in range(4)))
    assert case.accelerated() == before + 32 and case.state.statistics["calls"] >= 32


def test_the_first_calls_of_many_threads_build_once(hifigan, fake_backend):
    patch(hifigan.model, verify=False, enabled=False)
    fake_backend.compiled.clear()
    patch(hifigan.model, enabled=True)
    expected = hifigan.original()

    def work():
        assert (hifigan() - expected).abs().max() < 1e-5

    together(*[work] * 8)
    assert len(fake_backend.compiled) == 1


def test_weights_change_between_calls_of_other_threads(hifigan, fake_backend):
    """Each output is that of one of the two states, never of a mixture, if writers hold a lock."""
    patch(hifigan.model)
    states = [build(hifigan.config, seed=s).state_dict() for s in (0, 5)]
    expected = []
    for state in states:
        hifigan.model.load_state_dict(state)
        expected.append(hifigan.original())
    lock, stop = threading.Lock(), time.monotonic() + 1.5

    def writer():
        while time.monotonic() < stop:
            with lock:
                hifigan.model.load_state_dict(random.choice(states))

    def reader():
        while time.monotonic() < stop:
            with lock:
                got = hifigan()
            assert min((got - e).abs().max() for e in expected) < 1e-5

    together(writer, reader, reader)
    assert hifigan.state.statistics["updates"] > 0


@pytest.mark.parametrize("change", ["patching", "casting"])
def test_callers_beside_changes_of_the_model(hifigan, fake_backend, change):
    """Audio is right whoever computes it; a cast may only make eager's own complaint."""
    patch(hifigan.model)
    expected = hifigan.original()
    stop = time.monotonic() + 1.5

    def changer():
        while time.monotonic() < stop:
            if change == "patching":
                unpatch(hifigan.model)
                patch(hifigan.model, chunk_frames=random.randint(1, 9))
            else:
                hifigan.model.half()
                hifigan.model.float()

    def caller():
        while time.monotonic() < stop:
            try:
                got = hifigan()
            except (RuntimeError, TypeError, ValueError) as complaint:
                assert change == "casting", complaint
                assert "type" in str(complaint) or "float" in str(complaint), complaint
                continue
            assert (got - expected).abs().max() < (1e-5 if change == "patching" else 1e-2)

    together(changer, caller, caller)
    unpatch(hifigan.model)
    patch(hifigan.model)
    hifigan.assert_ours()


def test_reports_do_not_wait_for_calls(hifigan, fake_backend):
    patch(hifigan.model)
    inside, go = threading.Event(), threading.Event()
    run = fake_backend.compiled[-1].run

    def slow(*arguments):
        inside.set()
        assert go.wait(20)
        run(*arguments)

    fake_backend.compiled[-1].run = slow

    def watcher():
        assert inside.wait(20)
        try:
            assert report(hifigan.model).modules[0].status == "patched"
        finally:
            go.set()

    together(hifigan, watcher)
