"""How an utterance is cut: kept parts without gap or overlap, each read with its whole halo."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Window:
    """Frames ``[read_start, read_end)`` are read, those of ``[keep_start, keep_end)`` kept."""

    read_start: int
    read_end: int
    keep_start: int
    keep_end: int

    @property
    def frames(self) -> int:
        return self.read_end - self.read_start


def plan_windows(frames: int, chunk_frames: int, halo: int) -> tuple[Window, ...]:
    """Cut ``frames`` into windows that keep ``chunk_frames`` each, the last one the rest.

    Depends on nothing else, so a row is cut alike alone and in any batch. All but the last are of
    one size, so that what they need is allocated once, however long the utterance.
    """
    if frames < 1 or chunk_frames < 1 or halo < 0:
        raise ValueError(
            "plan_windows: expected frames and chunk_frames of at least 1 and halo of at least 0, "
            f"got {frames}, {chunk_frames}, {halo}"
        )
    starts = range(0, frames, chunk_frames)
    return tuple(
        Window(
            max(0, start - halo),
            min(frames, start + chunk_frames + halo),
            start,
            min(frames, start + chunk_frames),
        )
        for start in starts
    )
