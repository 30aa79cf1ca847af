"""Requests of many threads joined into ragged batches, without a thread of our own."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .engine import Engine


class _Request:
    """One caller's input, and where its audio or its error arrives."""

    def __init__(self, x: torch.Tensor, g: torch.Tensor | None, device: torch.device):
        self.x, self.g = x, g
        self.stream = _current_stream(device)
        self.audio: torch.Tensor | None = None
        self.error: BaseException | None = None
        self.done = False


class Batcher:
    """Call it as the engine, from any number of threads: what waits is run together.

    The thread whose request is the oldest leads: it gathers up to ``most`` requests in the order
    of their arrival, runs them as one ragged batch and hands out the audio, then the next oldest
    leads. So none is overtaken by more than the batch under way. ``wait_s``: how long a leader
    without company waits for it; requests that arrive while a batch runs join the next one at once.

    Each caller gets what it would get alone, bit for bit, in a tensor of its own. If a batch fails,
    its requests are run one by one, and each error goes to the caller whose request raises it.
    """

    def __init__(self, engine: Engine, most: int, wait_s: float = 0.0):
        if most < 1 or wait_s < 0:
            raise ValueError(
                f"batcher: expected at least 1 request and 0 s to wait, got {most} and {wait_s}"
            )
        self._engine = engine
        self._most = most
        self._wait_s = wait_s
        self._waiting: deque[_Request] = deque()
        self._changed = threading.Condition()
        self._running = False
        self._batches = self._joined = 0

    def __call__(self, x: torch.Tensor, g: torch.Tensor | None = None) -> torch.Tensor:
        """``x: [B, C_in, T]``, ``g: [B or 1, gin, 1]``; returns ``[B, 1, length(T)]``.

        Raises ``ValueError`` or ``TypeError`` for an input that does not fit, before it waits.
        """
        self._engine.check(x, g)
        if x.shape[0] < 1 or x.shape[2] < 1:
            return self._engine(x, g)  # which says what is wrong
        request = _Request(x, g, self._engine.device)
        with self._changed:
            self._waiting.append(request)
            self._changed.notify_all()
            try:
                while not request.done and (self._running or self._waiting[0] is not request):
                    self._changed.wait()
                batch = [] if request.done else self._gather()
            except BaseException:  # interrupted while it waited: the others go on without it
                if request in self._waiting:
                    self._waiting.remove(request)
                self._changed.notify_all()
                raise
        if batch:
            try:
                self._run(batch)
            finally:
                self._finish(batch)
        if request.error is not None:
            raise request.error
        assert request.audio is not None, "a request is done with its audio or an error"
        return request.audio

    def statistics(self) -> dict[str, float]:
        """``batches`` run and the requests ``joined`` in those of more than one."""
        return {"batches": self._batches, "joined": self._joined}

    def _gather(self) -> list[_Request]:
        """Take what runs next; the caller, who holds the condition, is the oldest request."""
        deadline = time.monotonic() + self._wait_s
        while len(self._waiting) < self._most:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                break
            self._changed.wait(left_s)
        self._running = True
        return [self._waiting.popleft() for _ in range(min(self._most, len(self._waiting)))]

    def _finish(self, batch: list[_Request]) -> None:
        with self._changed:
            self._running = False
            self._batches += 1
            self._joined += len(batch) if len(batch) > 1 else 0
            for request in batch:
                request.done = True
                if request.audio is None and request.error is None:
                    request.error = RuntimeError(
                        "batcher: the thread that ran this was interrupted"
                    )
            self._changed.notify_all()

    def _run(self, batch: list[_Request]) -> None:
        """On the leader's stream, in order with the streams of the other callers."""
        leading = _current_stream(self._engine.device)
        others = [r.stream for r in batch if r.stream is not None and r.stream != leading]
        if leading is None or not others:
            self._run_here(batch)
            return
        for stream in others:
            leading.wait_stream(stream)
        try:
            self._run_here(batch)
        finally:
            for stream in others:
                stream.wait_stream(leading)
            for request in batch:
                if request.audio is not None and request.stream is not None:
                    request.audio.record_stream(request.stream)

    def _run_here(self, batch: list[_Request]) -> None:
        if len(batch) > 1 and len({request.g is None for request in batch}) == 1:
            try:
                self._run_joined(batch)
                return
            except Exception:
                # Which of them is at fault, and whether any is, shows when each runs alone.
                for request in batch:
                    request.audio = None
        for request in batch:
            try:
                request.audio = self._engine(request.x, request.g)
            except Exception as error:
                request.error = error

    def _run_joined(self, batch: list[_Request]) -> None:
        engine = self._engine
        lengths = [r.x.shape[2] for r in batch for _ in range(r.x.shape[0])]
        with torch.inference_mode(False), torch.no_grad():
            shape = (len(lengths), batch[0].x.shape[1], max(lengths))
            x = torch.empty(shape, dtype=engine.dtype, device=engine.device)
            row, conditions = 0, []
            for request in batch:
                rows, _, frames = request.x.shape
                x[row : row + rows, :, :frames] = request.x.detach()
                x[row : row + rows, :, frames:] = 0
                if request.g is not None:
                    conditions.append(request.g.detach().expand(rows, -1, -1))
                row += rows
            audio = engine(x, torch.cat(conditions) if conditions else None, lengths)
            row = 0
            for request in batch:
                rows, _, frames = request.x.shape
                samples = engine.vocoder.length(frames)
                request.audio = audio[row : row + rows, :, :samples].clone()
                row += rows


def _current_stream(device: torch.device) -> torch.cuda.Stream | None:
    """The thread's stream on the device; None where there are no streams."""
    return torch.cuda.current_stream(device) if device.type == "cuda" else None
