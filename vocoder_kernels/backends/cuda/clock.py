"""Device time of some runs, taken without waiting for any."""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import Callable

import torch

from ...runtime.window_times import KEPT

logger = logging.getLogger("vocoder_kernels")

EVERY = 64
"""Runs between two measured ones, in the long run."""
Pair = tuple[torch.cuda.Event, torch.cuda.Event]


def measured(run: int) -> bool:
    """Whether the ``run``-th run is measured: the 2nd, 4th, 8th, ... 64th, then every 64th."""
    return run % EVERY == 0 or (1 < run < EVERY and run & (run - 1) == 0)


class Clock:
    """Runs of one plan, some between two timing events on the current stream.

    The events exist from the start, on the current device. Reading them is left to reports, which
    may come from other threads meanwhile: a pair is either on its way or readable.
    """

    def __init__(self) -> None:
        self.runs = 0
        self._lock = threading.Lock()
        self._unused: list[Pair] = [_pair() for _ in range(KEPT)]
        self._recorded: deque[Pair] = deque()

    def run(self, action: Callable[[], None]) -> None:
        self.runs += 1
        pair = self._free_pair() if measured(self.runs) else None
        if pair is None:
            action()
            return
        start, end = pair
        try:
            start.record()
            action()
            end.record()
        except BaseException:
            self._unused.append(pair)
            raise
        with self._lock:
            self._recorded.append(pair)

    def times_us(self) -> list[float]:
        """Microseconds of the runs that are measured, remembered and over, oldest first."""
        times = []
        with self._lock:
            try:
                for start, end in self._recorded:
                    if end.query():
                        times.append(1e3 * start.elapsed_time(end))
            except RuntimeError as failure:
                # A device that has failed for good: reports must still say why.
                logger.debug("vocoder_kernels: times of windows cannot be read: %s", failure)
        return times

    def _free_pair(self) -> Pair | None:
        """An unused pair, else the oldest one; None if that one's run is not over."""
        if self._unused:
            return self._unused.pop()
        with self._lock:
            _, end = self._recorded[0]
            return self._recorded.popleft() if end.query() else None


def _pair() -> Pair:
    """Recorded once, since PyTorch creates an event at its first record."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    end.record()
    return start, end
