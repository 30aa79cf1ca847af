"""Which windows run together, and in a graph of which size."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vocoder_kernels.backends.cuda.window import MOST_ROWS, Limits, batches
from vocoder_kernels.runtime.windows import plan_windows

limits = st.builds(Limits.of, st.none() | st.integers(1, 3000), st.integers(0, 60))


def test_default_ladder():
    assert Limits.of(None, 12).rungs == (32, 64, 128, 256, 512, 1024)
    assert Limits.of(None, 12).chunk_frames == 1000


def test_ladder_of_a_chunk_size():
    assert Limits.of(100, 12).rungs == (32, 64, 128)
    assert Limits.of(100, 12).chunk_frames == 100
    assert Limits.of(1, 3).rungs == (32,)
    assert Limits.of(500, 12).rungs == (32, 64, 128, 256, 512, 528)


@given(limits=limits, lengths=st.lists(st.integers(1, 5000), min_size=1, max_size=6))
def test_every_window_of_every_row_once(limits, lengths):
    expected = {
        (row, window)
        for row, frames in enumerate(lengths)
        for window in plan_windows(frames, limits.chunk_frames, limits.halo)
    }
    found = []
    for batch in batches(lengths, limits):
        assert batch.frames in limits.rungs
        assert len(batch.lengths) == batch.batch <= MOST_ROWS
        assert all(n <= batch.frames for n in batch.lengths)
        assert batch.batch == 1 or batch.batch * batch.frames <= limits.launch_frames
        used = 0
        for slots, piece in batch.slots():
            assert slots == slice(used, used + piece.rows)
            used += piece.rows
            assert batch.lengths[slots] == [piece.window.frames] * piece.rows
            found += [(row, piece.window) for row in range(piece.row, piece.row + piece.rows)]
        assert not any(batch.lengths[used:])
    assert len(found) == len(expected) and set(found) == expected


@given(frames=st.integers(1, 1000), rows=st.integers(1, 40))
def test_a_plain_batch_is_copied_at_once(frames, rows):
    """Rows of one length in one window: one piece per launch."""
    for batch in batches([frames] * rows, Limits.of(None, 12)):
        assert len(batch.pieces) == 1


@given(limits=limits)
def test_steps_down_to_the_smallest_window_and_end(limits):
    sizes = [limits]
    while (smaller := sizes[-1].smaller()) is not None:
        assert (smaller.rungs[-1], smaller.launch_frames) < (
            sizes[-1].rungs[-1],
            sizes[-1].launch_frames,
        )
        assert 1 <= smaller.chunk_frames <= smaller.rungs[-1] - 2 * smaller.halo
        sizes.append(smaller)
    assert len(sizes) < 40


@pytest.mark.parametrize("wanted, rows", [(1, 1), (2, 2), (3, 4), (8, 8), (9, 8), (100, 8)])
def test_rows_are_powers_of_two_within_the_limit(wanted, rows):
    assert Limits.of(None, 12).rows(128, wanted) == rows
