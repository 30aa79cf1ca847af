"""Whatever fails: smaller windows, then no graph, then the original forward, one warning each."""

from __future__ import annotations

import warnings

import pytest
import torch
from vocoders import BRIEF, case

from vocoder_kernels import patch, report
from vocoder_kernels.backends.cuda.graph import MOST_CAPTURES, Runner
from vocoder_kernels.backends.cuda.pool import StaticPool

FRAMES = 150


@pytest.fixture
def c():
    return case(BRIEF["hifigan"], torch.float16, FRAMES)


def out_of_memory_above(limit_bytes, monkeypatch):
    grow = StaticPool.grow

    def limited(pool, nbytes):
        pool.release()
        if nbytes > limit_bytes:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory (injected)")
        grow(pool, nbytes)

    monkeypatch.setattr(StaticPool, "grow", limited)


def caught(action):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        result = action()
    return result, [str(w.message) for w in found if "vocoder_kernels" in str(w.message)]


def test_smaller_windows_when_memory_runs_out(c, monkeypatch):
    whole = c.engine()
    expected = whole(*c.args)
    needed = whole.statistics()["pool_bytes"]
    out_of_memory_above(needed / 3, monkeypatch)
    engine = c.engine()
    got, messages = caught(lambda: [engine(*c.args) for _ in range(2)])
    assert torch.equal(got[0], expected) and torch.equal(got[1], expected)
    assert (
        len(messages) == 1 and "windows of at most" in messages[0] and "(injected)" in messages[0]
    )
    statistics = engine.statistics()
    assert statistics["out_of_memory"] >= 1 and statistics["pool_bytes"] <= needed / 3
    assert statistics["window_frames"] < 256


def test_the_original_forward_when_no_window_fits(c, monkeypatch):
    patch(c.model)
    out_of_memory_above(0, monkeypatch)

    def patch_and_call():
        patch(c.model, chunk_frames=100)
        with torch.no_grad():
            return c.model(*c.args)

    got, messages = caught(patch_and_call)
    assert torch.equal(got, c.eager())
    assert len(messages) == 1 and "original forward" in messages[0] and "(injected)" in messages[0]
    (state,) = report(c.model).modules
    assert state.statistics.get("accelerated", 0) == 0 and "OutOfMemory" in state.why


def break_captures(times, monkeypatch):
    """The first ``times`` captures fail half-way, by an operation that no capture allows."""
    launch_all, left = Runner._launch_all, [times]

    def failing(runner):
        launch_all(runner)
        if torch.cuda.is_current_stream_capturing() and left[0]:
            left[0] -= 1
            raise RuntimeError("not while capturing (injected)")

    monkeypatch.setattr(Runner, "_launch_all", failing)


def test_no_graph_when_capturing_fails(c, monkeypatch):
    expected = c.engine()(*c.args)
    break_captures(100, monkeypatch)
    stream = torch.cuda.current_stream()
    engine = c.engine()
    got, messages = caught(lambda: [engine(*c.args) for _ in range(5)])
    assert all(torch.equal(y, expected) for y in got)
    assert len(messages) == 1 and "CUDA graph" in messages[0] and "(injected)" in messages[0]
    statistics = engine.statistics()
    assert statistics["plain_launches"] == 5 and statistics["graph_launches"] == 0
    assert statistics["failed_captures"] == MOST_CAPTURES
    assert torch.cuda.current_stream() == stream


def test_captured_later_when_only_the_first_attempt_fails(c, monkeypatch):
    expected = c.engine()(*c.args)
    break_captures(1, monkeypatch)
    engine = c.engine()
    got, _ = caught(lambda: [engine(*c.args) for _ in range(2)])
    assert all(torch.equal(y, expected) for y in got)
    assert engine.statistics()["graph_launches"] == 1


@pytest.mark.parametrize("failure", ("memory", "capture"))
def test_strict_raises(c, failure, monkeypatch):
    if failure == "memory":
        out_of_memory_above(0, monkeypatch)
    else:
        break_captures(100, monkeypatch)
    with pytest.raises(RuntimeError, match="injected"):
        c.engine(strict=True)(*c.args)


def test_a_failing_launch_reaches_the_caller(c, monkeypatch):
    engine = c.engine()

    def broken(runner):
        raise ValueError("launch refused (injected)")

    monkeypatch.setattr(Runner, "_launch_all", broken)
    with pytest.raises(ValueError, match="injected"):
        engine(*c.args)
    monkeypatch.undo()
    assert torch.equal(engine(*c.args), c.engine()(*c.args))


def test_inside_a_capture_is_refused_with_a_sentence(c):
    engine = c.engine()
    expected = engine(*c.args)
    with pytest.raises(RuntimeError, match="call it outside the capture"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            engine(*c.args)
    assert torch.equal(engine(*c.args), expected)
