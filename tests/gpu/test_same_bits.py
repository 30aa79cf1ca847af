"""One utterance gives the same bits however it is run."""

from __future__ import annotations

import pytest
import torch
from vocoders import BRIEF, case, to_rows

FRAMES = 90


@pytest.fixture(scope="module", params=sorted(BRIEF))
def whole(request):
    """A batch of three, and its audio in one window."""
    c = case(BRIEF[request.param], torch.float16, FRAMES, batch=3)
    return c, c.engine()(*c.args)


def rows(c, start, stop):
    return (c.x[start:stop], *(g[start:stop] for g in (c.g,) if g is not None))


def poisoned(engine):
    """Fill the pool with NaN, as if nothing had ever been computed there."""
    engine.executable._pool._bytes.fill_(255)
    return engine


@pytest.mark.parametrize("chunk_frames", (11, 40))
def test_windows(whole, chunk_frames):
    c, expected = whole
    engine = c.engine(chunk_frames=chunk_frames)
    assert torch.equal(engine(*c.args), expected)
    assert engine.statistics()["windows"] == 3 * -(-FRAMES // chunk_frames)


def test_alone_and_in_batches(whole):
    c, expected = whole
    engine = c.engine()
    for start, stop in ((0, 1), (1, 2), (1, 3)):
        assert torch.equal(engine(*rows(c, start, stop)), expected[start:stop])


def test_ragged_rows(whole):
    """Frames beyond a row's length are NaN: no value of them may count."""
    c, _ = whole
    lengths = [FRAMES, 33, 2]
    engine = c.engine(chunk_frames=40)
    got = engine(to_rows(lengths, c.x), c.g, lengths)
    for row, frames in enumerate(lengths):
        args = rows(c, row, row + 1)
        alone = engine(args[0][:, :, :frames].clone(), *args[1:])
        samples = alone.shape[2]
        assert torch.equal(got[row : row + 1, :, :samples], alone)
        assert not got[row, :, samples:].any()


def test_without_graphs(whole):
    c, expected = whole
    engine = c.engine(cuda_graphs=False)
    assert torch.equal(engine(*c.args), expected)
    statistics = engine.statistics()
    assert statistics["graph_launches"] == statistics["captures"] == 0


def test_any_graph_large_enough(whole):
    """A capacity that is no power of two."""
    c, expected = whole
    halo = c.engine().vocoder.receptive_field
    engine = c.engine(chunk_frames=112 - 2 * halo)
    assert torch.equal(engine(*c.args), expected)


def test_repeated_on_a_poisoned_pool(whole):
    """Also after other inputs of other sizes: nothing of an earlier call shows."""
    c, expected = whole
    engine = c.engine()
    for _ in range(3):
        assert torch.equal(engine(*c.args), expected)
        poisoned(engine)(*(a[:2] for a in (c.x[:, :, :9], *c.args[1:])))
        poisoned(engine)


def test_after_the_pool_grew(whole):
    c, expected = whole
    engine = c.engine()
    engine(*(a[:1] for a in (c.x[:, :, :3], *c.args[1:])))
    small = engine.statistics()["pool_bytes"]
    assert torch.equal(engine(*c.args), expected)
    assert engine.statistics()["pool_bytes"] > small


def test_streamed(whole):
    c, expected = whole
    stream = c.engine().stream(c.g)
    pieces = [stream.push(part) for part in c.x.split(37, dim=2)]
    assert torch.equal(torch.cat([*pieces, stream.flush()], 2), expected)


def test_warmed_up(whole):
    c, expected = whole
    engine = c.engine()
    engine.warmup(FRAMES, 3)
    before = engine.statistics()
    assert before["captures"] == 1 and before["windows"] == 0
    assert torch.equal(engine(*c.args), expected)
    assert engine.statistics()["captures"] == 1
