"""After the first call at a size: one allocation, no synchronisation, one graph launch a window."""

from __future__ import annotations

import pytest
import torch
from vocoders import BRIEF, case

FRAMES = 40


@pytest.fixture(scope="module")
def warm():
    """An engine that has seen the size, which is eight windows."""
    c = case(BRIEF["hifigan"], torch.float16, FRAMES)
    engine = c.engine(chunk_frames=5)
    expected = engine(*c.args)
    torch.cuda.synchronize()
    return c, engine, expected


def allocations() -> int:
    return torch.cuda.memory_stats()["allocation.all.allocated"]


def test_one_allocation(warm):
    c, engine, expected = warm
    before, reserved = allocations(), torch.cuda.memory_reserved()
    for calls in range(1, 4):
        out = engine(*c.args)
        assert allocations() - before == calls
        assert torch.equal(out, expected)
        before = allocations() - calls
    assert torch.cuda.memory_reserved() == reserved


def test_no_synchronisation(warm):
    c, engine, expected = warm
    torch.cuda.set_sync_debug_mode("error")
    try:
        out = engine(*c.args)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(out, expected)


def test_one_graph_launch_per_batch_of_windows(warm, monkeypatch):
    """And no kernel launched from the host."""
    c, engine, _ = warm
    replays = []
    replay = torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(
        torch.cuda.CUDAGraph, "replay", lambda graph: (replays.append(graph), replay(graph))
    )
    before = engine.statistics()
    engine(*c.args)
    after = engine.statistics()
    assert after["windows"] - before["windows"] == FRAMES // 5
    assert len(replays) == after["graph_launches"] - before["graph_launches"] == 1
    assert after["plain_launches"] == 0 and after["captures"] == before["captures"]


def test_more_calls_in_flight_than_staging_slots(warm):
    """Ranges on their way to the device are never overwritten by those of a later call."""
    c, engine, expected = warm
    alone = engine(*(a[..., :7] if a is c.x else a for a in c.args))
    outs = []
    for _ in range(20):
        outs.append(engine(*c.args))
        outs.append(engine(c.x[..., :7].contiguous(), *c.args[1:]))
    assert all(torch.equal(out, expected) for out in outs[::2])
    assert all(torch.equal(out, alone) for out in outs[1::2])


def test_output_is_fresh_and_writable(warm):
    c, engine, expected = warm
    with torch.inference_mode():
        first = engine(*c.args)
    first.div_(2.0)
    assert torch.equal(engine(*c.args), expected)


def test_memory_is_constant_in_the_length():
    """Once as many windows run at once as ever will."""
    c = case(BRIEF["bigvgan"], torch.float16, 1500)
    engine = c.engine(chunk_frames=100)
    engine(c.x[:, :, :750].contiguous())
    pool = engine.statistics()["pool_bytes"]
    engine(*c.args)
    assert engine.statistics()["pool_bytes"] == pool


def test_the_pool_survives_empty_cache(warm):
    c, engine, expected = warm
    torch.cuda.empty_cache()
    assert torch.equal(engine(*c.args), expected)
