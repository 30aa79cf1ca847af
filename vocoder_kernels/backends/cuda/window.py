"""Which windows run together, and in a graph of which size. Needs no device."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...runtime.windows import Window, plan_windows

SMALLEST_FRAMES = 32
DEFAULT_FRAMES = 1024
"""Largest window unless ``chunk_frames`` says otherwise: 10 s of v4, which fills every GPU."""
MOST_ROWS = 32
GRANULE_FRAMES = 16


@dataclass(frozen=True)
class Limits:
    """Windows keep ``chunk_frames`` and read a ``halo`` more on each side. Graphs take windows of
    up to ``rungs`` frames, at most ``launch_frames`` (a window at least) and `MOST_ROWS` rows.
    """

    chunk_frames: int
    halo: int
    rungs: tuple[int, ...]
    launch_frames: int

    @classmethod
    def of(cls, chunk_frames: int | None, halo: int) -> Limits:
        """Doubling from 32 frames to ``chunk_frames`` and a halo on each side."""
        if chunk_frames is None:
            chunk_frames = max(1, DEFAULT_FRAMES - 2 * halo)
        top = _rounded(chunk_frames + 2 * halo)
        rungs = [SMALLEST_FRAMES]
        while rungs[-1] * 2 < top:
            rungs.append(rungs[-1] * 2)
        if top > SMALLEST_FRAMES:
            rungs.append(top)
        return cls(chunk_frames, halo, tuple(rungs), max(DEFAULT_FRAMES, top))

    def frames(self, window_frames: int) -> int:
        """Capacity of the graph for a window."""
        return next(rung for rung in self.rungs if rung >= window_frames)

    def rows(self, frames: int, wanted: int) -> int:
        """Rows of the graph for up to ``wanted`` windows in rung ``frames``: a power of two."""
        most = min(MOST_ROWS, max(1, self.launch_frames // frames))
        rows = 1
        while rows < wanted and 2 * rows <= most:
            rows *= 2
        return rows

    def smaller(self) -> Limits | None:
        """The next step down, for less memory; None if there is none."""
        top = self.rungs[-1]
        if self.launch_frames > top:
            return replace(self, launch_frames=max(top, self.launch_frames // 2))
        if len(self.rungs) == 1 or self.rungs[-2] <= 2 * self.halo:
            return None
        largest = self.rungs[-2]
        return replace(
            self,
            chunk_frames=min(self.chunk_frames, largest - 2 * self.halo),
            rungs=self.rungs[:-1],
            launch_frames=largest,
        )


@dataclass(frozen=True)
class Piece:
    """Window ``window`` of ``rows`` rows of the caller's batch, from row ``row`` on."""

    row: int
    rows: int
    window: Window


@dataclass(frozen=True)
class Batch:
    """One launch of the graph for ``batch`` windows of up to ``frames`` frames."""

    frames: int
    batch: int
    pieces: tuple[Piece, ...]

    @property
    def lengths(self) -> list[int]:
        """Valid frames of every row of the graph, 0 for unused ones."""
        used = [p.window.frames for p in self.pieces for _ in range(p.rows)]
        return used + [0] * (self.batch - len(used))

    def slots(self) -> Iterator[tuple[slice, Piece]]:
        """The graph's rows that each piece takes."""
        first = 0
        for piece in self.pieces:
            yield slice(first, first + piece.rows), piece
            first += piece.rows


def batches(lengths: Sequence[int], limits: Limits) -> Iterator[Batch]:
    """Every window of every row once, those of like size together, largest first."""
    jobs = [
        (limits.frames(window.frames), window, row)
        for row, frames in enumerate(lengths)
        for window in plan_windows(frames, limits.chunk_frames, limits.halo)
    ]
    jobs.sort(key=lambda job: (-job[0], job[1].read_start, job[1].read_end, job[2]))
    first = 0
    while first < len(jobs):
        frames = jobs[first][0]
        alike = next((i for i in range(first, len(jobs)) if jobs[i][0] != frames), len(jobs))
        batch = limits.rows(frames, alike - first)
        taken = jobs[first : min(alike, first + batch)]
        yield Batch(frames, batch, _pieces([(window, row) for _, window, row in taken]))
        first += len(taken)


def _pieces(jobs: list[tuple[Window, int]]) -> tuple[Piece, ...]:
    """Neighbouring rows with one window are one piece: one copy each way."""
    pieces: list[Piece] = []
    for window, row in jobs:
        last = pieces[-1] if pieces else None
        if last is not None and last.window == window and last.row + last.rows == row:
            pieces[-1] = replace(last, rows=last.rows + 1)
        else:
            pieces.append(Piece(row, 1, window))
    return tuple(pieces)


def _rounded(frames: int) -> int:
    return -(-frames // GRANULE_FRAMES) * GRANULE_FRAMES
