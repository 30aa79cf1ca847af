"""Streams: the whole utterance out of pieces, at a cost that does not grow."""

from __future__ import annotations

import random
import statistics
import threading
import time

import pytest
import torch
from reference import CONFIGS, build, inputs

from vocoder_kernels import compile

ALLOWED = 2e-6
"""How far CPU windows may differ by where they start, of full scale."""


def make(config: str = "hifigan", **options):
    return compile(build(CONFIGS[config]), **options)


def pieces(x: torch.Tensor, sizes) -> list[torch.Tensor]:
    cut, start = [], 0
    while start < x.shape[2]:
        cut.append(x[:, :, start : start + next(sizes)])
        start += cut[-1].shape[2]
    return cut


def random_sizes(most: int, seed: int = 0):
    source = random.Random(seed)
    while True:
        yield source.choice((0, 1, 2, source.randint(1, most)))


def through(stream, cut) -> torch.Tensor:
    return torch.cat([*(stream.push(piece) for piece in cut), stream.flush()], 2)


@pytest.mark.parametrize("config", ["hifigan", "bigvgan"])
def test_ten_thousand_frames_in_random_pieces_equal_the_whole(config):
    engine = make(config)
    x, g = inputs(CONFIGS[config], 10_000)
    whole = engine(x, g)
    got = through(engine.stream(g), pieces(x, random_sizes(300)))
    assert got.shape == whole.shape
    assert (got - whole).abs().max() <= ALLOWED


@pytest.mark.parametrize("config", list(CONFIGS))
def test_pieces_of_one_frame(config):
    engine = make(config)
    x, g = inputs(CONFIGS[config], 40, batch=2)
    got = through(engine.stream(g), pieces(x, iter(lambda: 1, 0)))
    assert got.shape == engine(x, g).shape
    assert (got - engine(x, g)).abs().max() <= ALLOWED


def test_audio_comes_as_soon_as_the_receptive_field_allows():
    engine = make()
    halo, hop = engine.vocoder.receptive_field, engine.vocoder.hop_length
    x, g = inputs(CONFIGS["hifigan"], halo + 5)
    stream = engine.stream(g)
    given = [stream.push(x[:, :, i : i + 1]).shape[2] for i in range(halo + 5)]
    assert given == [0] * halo + [hop] * 5
    assert stream.frames_waiting == halo


def test_work_and_memory_are_flat():
    """A piece runs its own frames and the halo on both sides, wherever it is in the stream."""
    engine = make(threads=1)
    halo, piece = engine.vocoder.receptive_field, 50
    x, g = inputs(CONFIGS["hifigan"], piece)
    frames_run, run = [], engine.executable.run

    def counted(x, g, lengths, out):
        frames_run.append(sum(lengths))
        return run(x, g, lengths, out)

    engine.executable.run = counted
    stream, seconds, kept = engine.stream(g), [], set()
    for _ in range(240):
        start = time.process_time()
        stream.push(x)
        seconds.append(time.process_time() - start)
        kept.add(stream._kept.untyped_storage().nbytes())
    assert set(frames_run[2:]) == {piece + 2 * halo}  # the start has less halo before it
    assert max(kept) == 2 * halo * x.shape[1] * 4
    first, last = (statistics.median(s) for s in (seconds[40:140], seconds[140:]))
    print(f"{first * 1e3:.2f} ms a piece in the first half, {last * 1e3:.2f} ms in the second")
    assert abs(last - first) <= 0.2 * max(first, last)


def test_min_frames_trades_delay_for_work():
    engine = make()
    x, g = inputs(CONFIGS["hifigan"], 200)
    stream = engine.stream(g, min_frames=32)
    given = [stream.push(p).shape[2] for p in pieces(x, iter(lambda: 5, 0))]
    hop = engine.vocoder.hop_length
    assert {n // hop for n in given} <= {0, *range(32, 37)}
    assert sum(given) + stream.flush().shape[2] == engine(x, g).shape[2]


def test_many_streams_over_one_engine():
    engine = make()
    made = [inputs(CONFIGS["hifigan"], 150 + 10 * i, seed=i) for i in range(6)]
    want = [engine(x, g) for x, g in made]
    errors: dict[int, float] = {}

    def run(i):
        x, g = made[i]
        got = through(engine.stream(g), pieces(x, random_sizes(40, i)))
        errors[i] = (got - want[i]).abs().max().item() if got.shape == want[i].shape else 9.0

    threads = [threading.Thread(target=run, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 6 and max(errors.values()) <= ALLOWED


def test_pieces_belong_to_the_caller():
    engine = make()
    x, g = inputs(CONFIGS["hifigan"], 100)
    stream = engine.stream(g)
    first = stream.push(x[:, :, :60])
    kept = first.clone()
    with torch.inference_mode():
        second = stream.push(x[:, :, 60:])
    assert torch.equal(first, kept) and not second.is_inference()
    x.zero_()  # what was pushed is the stream's own copy
    assert (torch.cat([first, second, stream.flush()], 2)[0, 0, -1] != 0).item()


def test_misuse_is_a_sentence():
    engine = make()
    x, g = inputs(CONFIGS["hifigan"], 5)
    with pytest.raises(ValueError, match="min_frames of at least 1"):
        engine.stream(g, min_frames=0)
    stream = engine.stream(g)
    with pytest.raises(RuntimeError, match="at least one frame"):
        stream.flush()
    stream.push(x)
    with pytest.raises(ValueError, match="expected 1 rows as before, got 2"):
        stream.push(x.expand(2, -1, -1))
    with pytest.raises(ValueError, match=r"expected \[B, 12, T\]"):
        stream.push(x[:, :3])
    stream.flush()
    for misuse in (lambda: stream.push(x), stream.flush):
        with pytest.raises(RuntimeError, match="flush"):
            misuse()
