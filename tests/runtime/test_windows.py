"""How utterances are cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocoder_kernels.runtime.windows import plan_windows


@given(st.integers(1, 5000), st.integers(1, 600), st.integers(0, 60))
def test_kept_parts_tile_the_utterance_and_carry_their_halo(frames, chunk_frames, halo):
    windows = plan_windows(frames, chunk_frames, halo)
    assert windows[0].keep_start == 0 and windows[-1].keep_end == frames
    for before, after in zip(windows, windows[1:]):
        assert before.keep_end == after.keep_start
    for w in windows:
        assert 1 <= w.keep_end - w.keep_start <= chunk_frames
        assert w.read_start == max(0, w.keep_start - halo)
        assert w.read_end == min(frames, w.keep_end + halo)
        assert w.frames == w.read_end - w.read_start <= chunk_frames + 2 * halo
    assert all(w.keep_end - w.keep_start == chunk_frames for w in windows[:-1])


@pytest.mark.parametrize("arguments", [(0, 4, 1), (4, 0, 1), (4, 4, -1)])
def test_impossible_windows(arguments):
    with pytest.raises(ValueError, match="expected frames and chunk_frames of at least 1"):
        plan_windows(*arguments)
