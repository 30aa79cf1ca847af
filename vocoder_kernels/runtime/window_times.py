"""How long windows take: what reports show, and the clock of those that run on the host."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

KEPT = 8
"""Measured runs of one size that are remembered."""
SMALLEST_FRAMES = 32


@dataclass(frozen=True)
class WindowTime:
    """Runs of ``batch`` windows of up to ``frames`` frames, all windows of one run together.

    program: what else tells it from others of that size: "conditioned", "tf32", both or neither.
    runs: all of them; on a GPU a few are measured.
    last_us, median_us: of the measured ones that are remembered; None if there is none yet.
    """

    frames: int
    batch: int
    runs: int
    last_us: float | None = None
    median_us: float | None = None
    program: str = ""

    @classmethod
    def of(
        cls, frames: int, batch: int, runs: int, times_us: Sequence[float], program: str = ""
    ) -> WindowTime:
        """From the remembered times, oldest first."""
        if not times_us:
            return cls(frames, batch, runs, program=program)
        return cls(frames, batch, runs, times_us[-1], median(times_us), program)


class HostClock:
    """Times of single windows on the host, by size: 32 frames, doubling up to ``most_frames``."""

    def __init__(self, most_frames: int) -> None:
        self._most_frames = most_frames
        self._times_us: dict[int, tuple[float, ...]] = {}
        self._runs: dict[int, int] = {}

    def add(self, frames: int, seconds: float) -> None:
        doubled = max(SMALLEST_FRAMES, 1 << (frames - 1).bit_length())
        size = min(self._most_frames, doubled)
        # Replaced, not changed: a report in another thread reads what it has got.
        self._times_us[size] = (*self._times_us.get(size, ())[1 - KEPT :], 1e6 * seconds)
        self._runs[size] = self._runs.get(size, 0) + 1

    def window_times(self) -> tuple[WindowTime, ...]:
        """By size, smallest first."""
        sizes = sorted(tuple(self._runs))
        return tuple(
            WindowTime.of(size, 1, self._runs[size], self._times_us[size]) for size in sizes
        )
