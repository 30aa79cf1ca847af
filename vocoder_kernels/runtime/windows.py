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
    """Cut ``frames`` into windows of nearly equal length that keep at most ``chunk_frames`` each.

    Depends on nothing else, so a row is cut alike alone and in any batch.
    """
    if frames < 1 or chunk_frames < 1 or halo < 0:
        raise ValueError(
            "plan_windows: expected frames and chunk_frames of at least 1 and halo of at least 0, "
            f"got {frames}, {chunk_frames}, {halo}"
        )
    count = -(-frames // chunk_frames)
    cuts = [frames * i // count for i in range(count + 1)]
    return tuple(
        Window(max(0, start - halo), min(frames, end + halo), start, end)
        for start, end in zip(cuts, cuts[1:])
    )
