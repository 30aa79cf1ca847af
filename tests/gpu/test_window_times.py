"""Time per window on the device: measured on the side, read in reports."""

from __future__ import annotations

import threading

import pytest
import torch
from vocoders import BRIEF, case

from vocoder_kernels import patch, report
from vocoder_kernels.runtime.window_times import KEPT

RUNS = 130
"""Of them 2, 4, 8, 16, 32, 64 and 128 are measured."""


@pytest.fixture(scope="module")
def c():
    return case(BRIEF["hifigan"], torch.float16, 5)


@pytest.mark.parametrize("cuda_graphs", (True, False))
def test_measured_without_waiting_or_allocating(c, cuda_graphs):
    engine = c.engine(cuda_graphs=cuda_graphs)
    expected = engine(*c.args)
    torch.cuda.synchronize()
    count = lambda: torch.cuda.memory_stats()["allocation.all.allocated"]  # noqa: E731
    before = count()
    torch.cuda.set_sync_debug_mode("error")
    try:
        outs = [engine(*c.args) for _ in range(RUNS - 1)]
        under_way = engine.window_times()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert count() - before == RUNS - 1
    assert torch.equal(outs[-1], expected)
    torch.cuda.synchronize()
    (time,) = engine.window_times()
    assert (time.frames, time.batch, time.runs) == (32, 1, RUNS)
    assert [t.runs for t in under_way] == [RUNS]
    assert 0 < time.median_us < 1e7 and 0 < time.last_us < 1e7
    statistics = engine.statistics()
    assert statistics["graph_launches" if cuda_graphs else "plain_launches"] == RUNS


def test_every_size_on_its_own(c):
    engine = c.engine()
    long = torch.cat([c.x] * 10, 2)
    for x in (c.x, long, long.repeat(2, 1, 1)):
        engine(x, c.g)
    engine(c.x)
    times = engine.window_times()
    sizes = [(t.program, t.frames, t.batch) for t in times]
    assert sizes == [
        ("", 32, 1),
        ("conditioned", 32, 1),
        ("conditioned", 64, 1),
        ("conditioned", 64, 2),
    ]
    assert all(t.runs == 1 and t.last_us is t.median_us is None for t in times)


def test_growing_keeps_the_times(c):
    """A larger window drops the graphs; what was measured of them stays."""
    engine = c.engine()
    for _ in range(4):
        engine(*c.args)
    engine(torch.cat([c.x] * 10, 2), c.g)
    engine(*c.args)
    torch.cuda.synchronize()
    small = engine.window_times()[0]
    assert small.runs == 5 and small.last_us is not None
    assert engine.statistics()["captures"] == 3


def test_read_while_other_threads_call(c):
    engine = c.engine()
    expected = engine(*c.args)
    done = threading.Event()
    seen = []

    def read():
        while not done.is_set():
            seen.append(engine.window_times())

    reader = threading.Thread(target=read)
    reader.start()
    try:
        outs = [engine(*c.args) for _ in range(24 * KEPT)]
    finally:
        done.set()
        reader.join()
    assert all(torch.equal(out, expected) for out in outs)
    times = [t for (t,) in seen if t.last_us is not None]
    assert times and all(t.last_us > 0 and t.median_us > 0 for t in times)


def test_in_the_report():
    c = case(BRIEF["hifigan"], torch.float16, 5)
    patch(c.model)
    with torch.no_grad():
        for _ in range(4):
            c.model(*c.args)
    torch.cuda.synchronize()
    outcome = report(c.model)
    last = outcome.modules[0].windows[-1]
    assert last.program == "conditioned" and last.runs >= 4
    assert "median us" in str(outcome) and f"{last.median_us:.0f}" in str(outcome)
