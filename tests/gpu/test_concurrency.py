"""Threads and streams: each call gives what it gives alone."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from vocoders import BRIEF, case

from vocoder_kernels import patch, report


@pytest.fixture
def c():
    return case(BRIEF["hifigan"], torch.float16, 60)


def in_threads(actions):
    """Start all at once, each on a stream of its own; raises what one of them raises."""
    barrier = threading.Barrier(len(actions))

    def run(action):
        with torch.cuda.stream(torch.cuda.Stream()):
            barrier.wait()
            result = action()
            torch.cuda.current_stream().synchronize()
            return result

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


def test_one_engine_in_many_threads(c):
    engine = c.engine()
    inputs = [c.x[:, :, : 20 + 9 * i].contiguous() for i in range(4)]
    expected = [engine(x, c.g) for x in inputs]
    torch.cuda.synchronize()

    def calls(i):
        return [engine(inputs[i], c.g) for _ in range(4)]

    got = in_threads([lambda i=i: calls(i) for i in range(4)])
    for outs, want in zip(got, expected):
        assert all(torch.equal(out, want) for out in outs)


def test_first_calls_capture_in_many_threads(c):
    """Captures of several engines meet, while other threads allocate and launch."""
    expected = c.engine()(*c.args)
    engines = [c.engine() for _ in range(3)]
    torch.cuda.synchronize()

    def churn():
        return [torch.ones(1000 + i, device="cuda").sum() for i in range(50)]

    got = in_threads([lambda e=e: e(*c.args) for e in engines] + [churn])
    assert all(torch.equal(out, expected) for out in got[:3])
    assert all(e.statistics()["captures"] == 1 for e in engines)


def test_streams_wait_for_each_other(c):
    """A call on another stream follows the first one's, though nobody synchronised."""
    engine = c.engine()
    expected = engine(*c.args)
    streams = [torch.cuda.Stream() for _ in range(3)]
    outs = []
    for stream in streams * 2:
        stream.wait_stream(torch.cuda.default_stream())
        with torch.cuda.stream(stream):
            outs.append(engine(*c.args))
    torch.cuda.synchronize()
    assert all(torch.equal(out, expected) for out in outs)


def test_new_weights_reach_every_stream(c):
    engine = c.engine()
    engine(*c.args)
    side = torch.cuda.Stream()
    weights = {n: w.clone() for n, w in _weights(c.model).items()}
    for value in weights.values():
        value.mul_(0.5)
    engine.update(weights)
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        got = engine(*c.args)
    torch.cuda.synchronize()
    with torch.no_grad():
        for parameter in c.model.parameters():
            parameter.mul_(0.5)
    assert torch.equal(got, c.engine()(*c.args))
    assert engine.statistics()["captures"] == 1


def test_joined_requests_of_many_streams(c):
    """Whoever leads waits for the streams that make the others' inputs, and they for its audio."""
    expected = c.engine()(*c.args)
    patch(c.model, join_requests=4, join_wait_ms=20)
    with torch.no_grad():
        c.model(*c.args)
    torch.cuda.synchronize()

    def call():
        ballast = torch.empty(2**22, device="cuda")
        x = torch.zeros_like(c.x)
        for i in range(20):
            ballast.fill_(i)
        x.copy_(c.x)
        with torch.no_grad():
            audio = c.model(x, c.g)
        copy = audio.clone()
        del audio, x
        return copy

    for _ in range(2):
        assert all(torch.equal(out, expected) for out in in_threads([call] * 4))
    assert report(c.model).modules[0].statistics["joined"] > 0


def _weights(model):
    from vocoder_kernels.families import describe, extract

    return extract(model, describe(model))
