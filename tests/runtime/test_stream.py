"""Audio in pieces, from frames in pieces: the basics, on both kinds of engine."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import CONFIGS, configs, inputs
from runtime.conftest import Case

from vocoder_kernels import native


def pushed(engine, x, g, cuts, **settings):
    """The audio of every push and of the flush."""
    stream = engine.stream(g, **settings)
    bounds = [0, *sorted({c for c in cuts if 0 < c < x.shape[2]}), x.shape[2]]
    pieces = [stream.push(x[:, :, a:b]) for a, b in zip(bounds, bounds[1:])]
    return [*pieces, stream.flush()]


@given(
    config=configs(),
    frames=st.integers(1, 60),
    cuts=st.lists(st.integers(1, 59), max_size=8),
    min_frames=st.integers(1, 20),
    batch=st.integers(1, 2),
)
@settings(max_examples=40)
def test_pieces_joined_are_the_whole(config, frames, cuts, min_frames, batch):
    if not native.available():
        pytest.skip("the native kernels were not built")
    case = Case(config)
    x, g = case.inputs(frames, batch)
    joined = torch.cat(pushed(case.engine, x, g, cuts, min_frames=min_frames), 2)
    whole = case.engine(x, g)
    assert joined.shape == whole.shape
    assert (joined - whole).abs().max() <= case.window_allowance(x, g)


@pytest.mark.parametrize("name", CONFIGS)
def test_audio_comes_as_soon_as_its_receptive_field(torch_engine, name):
    engine = torch_engine(name)
    halo, hop = engine.vocoder.receptive_field, engine.vocoder.hop_length
    x, g = inputs(CONFIGS[name], halo + 9)
    stream = engine.stream(g)
    given_out = 0
    for n in range(x.shape[2]):
        given_out += stream.push(x[:, :, n : n + 1]).shape[2]
        assert given_out == max(0, n + 1 - halo) * hop
        assert stream.frames_waiting == n + 1 - given_out // hop
    assert given_out + stream.flush().shape[2] == engine.vocoder.length(x.shape[2])


def test_misuse_is_explained(torch_engine):
    engine = torch_engine("hifigan")
    x, g = inputs(CONFIGS["hifigan"], 5)
    with pytest.raises(ValueError, match="min_frames of at least 1, got 0"):
        engine.stream(g, min_frames=0)
    stream = engine.stream(g)
    with pytest.raises(RuntimeError, match="flush needs at least one frame"):
        stream.flush()
    assert stream.push(x[:, :, :0]).shape == (1, 1, 0)
    stream.push(x)
    with pytest.raises(ValueError, match=r"expected \[B, 12, T\]"):
        stream.push(x[:, :3])
    with pytest.raises(ValueError, match="expected 1 rows as before, got 2"):
        without_condition = engine.stream()
        without_condition.push(x)
        without_condition.push(x.expand(2, -1, -1))
    stream.flush()
    for call in (stream.flush, lambda: stream.push(x)):
        with pytest.raises(RuntimeError, match="open a new one"):
            call()
