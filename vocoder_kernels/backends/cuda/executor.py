"""A vocoder compiled for one GPU: windows in, one graph launch each, audio out."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Callable

import torch

from ...ops.support import PRECISIONS, Target, default_precision, dot_precision
from ...options import Options
from ...program import Vocoder
from ...runtime.window_times import WindowTime
from .choose import Chooser
from .clock import Clock
from .graph import MOST_CAPTURES, Runner
from .lower import lower
from .pack import PackedWeights
from .plan import explain, plan
from .pool import Staging, StaticPool
from .steps import CONDITION, INPUT, OUTPUT, RANGES, SOURCE, Numerics, Program
from .tune import Tuner
from .window import MOST_ROWS, Batch, Limits, batches

logger = logging.getLogger("vocoder_kernels")

COUNTERS = (
    "windows",
    "graph_launches",
    "plain_launches",
    "captures",
    "failed_captures",
    "out_of_memory",
)
RunnerKey = tuple[str, bool, int, int]
"""Precision, whether conditioned, frames, rows."""


class CudaExecutable:
    """See `Executable`. Every method's work is ordered on the current stream of the device."""

    def __init__(
        self,
        vocoder: Vocoder,
        weights: Mapping[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
        options: Options,
    ) -> None:
        self.vocoder = vocoder
        self.device = device
        self.dtype = dtype
        self._options = options
        self._target = Target.of(device)
        self._limits = Limits.of(options.chunk_frames, vocoder.receptive_field)
        self._programs = programs(vocoder, dtype, self._target)
        self._runners: dict[RunnerKey, Runner] = {}
        self._clocks: dict[RunnerKey, Clock] = {}
        self._counters = dict.fromkeys(COUNTERS, 0)
        self._told: set[type] = set()
        self._tuner = Tuner(device, self._target) if options.autotune else None
        with torch.cuda.device(device):
            self._pool = StaticPool(device)
            self._staging = Staging((MOST_ROWS, 2))
            self._capture_stream = torch.cuda.Stream(device)
            rows = torch.arange(MOST_ROWS, dtype=torch.int32)
            self._source = torch.stack([rows, torch.zeros_like(rows)], 1).to(device)
            self._packed = PackedWeights(self._programs.values(), weights)
            self._pool.leave()

    def run(
        self,
        x: torch.Tensor,
        g: torch.Tensor | None,
        lengths: Sequence[int],
        out: torch.Tensor,
    ) -> None:
        with torch.cuda.device(self.device):
            if torch.cuda.is_current_stream_capturing():
                raise RuntimeError(
                    "vocoder: called while a CUDA graph is being captured around it; it replays "
                    "graphs of its own, so call it outside the capture"
                )
            self._pool.enter()
            try:
                self._for_each_batch(
                    lengths, lambda part: self._run_batch(part, x, g, lengths, out)
                )
            finally:
                self._pool.leave()

    def update(self, weights: Mapping[str, torch.Tensor]) -> None:
        with torch.cuda.device(self.device):
            self._pool.enter()
            if not self._packed.update(weights):
                self._drop_runners()
            self._pool.leave()

    def warmup(self, frames: int, batch: int) -> None:
        with torch.cuda.device(self.device):
            self._pool.enter()
            conditioned = self.vocoder.cond is not None
            self._for_each_batch([frames] * batch, partial(self._runner, conditioned))
            self._pool.leave()

    def release(self) -> None:
        with torch.cuda.device(self.device):
            self._drop_runners()
            self._pool.release([*self._packed.tensors(), self._source])
            self._packed.clear()
            self._clocks.clear()

    def statistics(self) -> dict[str, float]:
        """windows, graph_launches, plain_launches (batches run without a graph), captures,
        failed_captures, out_of_memory, pool_bytes, packed_bytes, window_frames (the largest)."""
        return {
            **{name: float(count) for name, count in self._counters.items()},
            "pool_bytes": float(self._pool.nbytes),
            "packed_bytes": float(self._packed.nbytes),
            "window_frames": float(self._limits.rungs[-1]),
        }

    def window_times(self) -> tuple[WindowTime, ...]:
        """Of the device, without the copies in and out; a few runs of each size are measured."""
        times = []
        for (precision, conditioned, frames, batch), clock in tuple(self._clocks.items()):
            names = ("tf32" if precision == "tf32" else "", "conditioned" if conditioned else "")
            program = " ".join(filter(None, names))
            times.append(WindowTime.of(frames, batch, clock.runs, clock.times_us(), program))
        return tuple(sorted(times, key=lambda t: (t.program, t.frames, t.batch)))

    def explain(self, frames: int) -> str:
        program = self._programs[self._precision(), self.vocoder.cond is not None]
        return explain(program, frames, self._limits, self._target)

    def _for_each_batch(self, lengths: Sequence[int], action: Callable[[Batch], Any]) -> None:
        """``action`` on every batch of windows; all over again with smaller ones if memory runs
        out, which gives the same bits."""
        failure: Exception | None = None
        again = True
        while again:
            again = False
            for part in batches(lengths, self._limits):
                try:
                    action(part)
                except torch.cuda.OutOfMemoryError as shortage:
                    self._step_down(part, shortage)
                    failure, again = shortage, True
                    break
        if failure is not None:
            largest = self._limits.rungs[-1]
            self._tell(f"runs windows of at most {largest} frames: more", failure)

    def _run_batch(
        self,
        part: Batch,
        x: torch.Tensor,
        g: torch.Tensor | None,
        lengths: Sequence[int],
        out: torch.Tensor,
    ) -> None:
        runner = self._runner(g is not None, part)
        self._copy_in(runner, part, x, g)
        runner.run()
        self._copy_out(runner, part, lengths, out)
        self._counters["windows"] += sum(piece.rows for piece in part.pieces)
        self._counters["graph_launches" if runner.captured else "plain_launches"] += 1

    def _copy_in(
        self, runner: Runner, part: Batch, x: torch.Tensor, g: torch.Tensor | None
    ) -> None:
        self._staging.send([[0, n] for n in part.lengths], runner.view(RANGES))
        for slots, piece in part.slots():
            rows, window = slice(piece.row, piece.row + piece.rows), piece.window
            frames = x[rows, :, window.read_start : window.read_end]
            runner.view(INPUT)[slots, :, : window.frames].copy_(frames)
            if g is not None:
                runner.view(CONDITION)[slots, 0].copy_(g[rows, :, 0])

    def _copy_out(
        self, runner: Runner, part: Batch, lengths: Sequence[int], out: torch.Tensor
    ) -> None:
        hop = self.vocoder.hop_length
        for slots, piece in part.slots():
            window = piece.window
            start, end = window.keep_start * hop, window.keep_end * hop
            if window.keep_end == lengths[piece.row]:
                end = self.vocoder.length(window.keep_end)
            first = start - window.read_start * hop
            audio = runner.view(OUTPUT)[slots, first : first + end - start]
            out[piece.row : piece.row + piece.rows, 0, start:end].copy_(audio)

    def _runner(self, conditioned: bool, part: Batch) -> Runner:
        """The runner for a batch, compiled and if possible captured."""
        precision = self._precision()
        key = (precision, conditioned, part.frames, part.batch)
        runner = self._runners.get(key)
        if runner is None:
            placed = plan(
                self._programs[precision, conditioned], part.frames, part.batch, self._target
            )
            if placed.pool.pool_bytes > self._pool.nbytes:
                self._drop_runners()
                self._pool.grow(placed.pool.pool_bytes)
            external = {SOURCE: self._source[: part.batch]}
            if key not in self._clocks:
                self._clocks[key] = Clock()
            clock = self._clocks[key]
            runner = Runner(placed, self._pool, self._packed, external, clock)
            if self._tuner is not None:
                runner.tune(self._tuner)
            runner.compile()
            self._runners[key] = runner
        if self._options.cuda_graphs and not runner.captured:
            self._capture(runner)
        return runner

    def _capture(self, runner: Runner) -> None:
        if runner.failed_captures >= MOST_CAPTURES:
            return
        try:
            runner.capture(self._capture_stream)
            self._counters["captures"] += 1
        except Exception as failure:
            self._counters["failed_captures"] += 1
            if self._options.strict:
                raise
            self._tell("launches its kernels one by one: capturing a CUDA graph", failure)

    def _step_down(self, part: Batch, failure: Exception) -> None:
        """Smaller windows than ``part`` from now on. Raises ``failure`` if there are none, or with
        ``strict``."""
        self._counters["out_of_memory"] += 1
        smaller = self._limits.smaller()
        while smaller is not None and smaller.launch_frames >= part.frames * part.batch:
            smaller = smaller.smaller()
        self._drop_runners()
        self._pool.release()
        if smaller is None or self._options.strict:
            raise failure
        self._limits = smaller

    def _tell(self, what: str, failure: Exception) -> None:
        """Warn, once for each kind of failure."""
        message = (
            f"vocoder_kernels: {self.vocoder.family} on {self.device} {what} failed: "
            f"{type(failure).__name__}: {failure}"
        )
        if type(failure) in self._told:
            logger.debug(message, exc_info=failure)
            return
        self._told.add(type(failure))
        logger.warning(message, exc_info=failure)
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _drop_runners(self) -> None:
        for runner in self._runners.values():
            runner.release()
        self._runners.clear()

    def _precision(self) -> str:
        """PyTorch's switches may change between calls; each setting has programs of its own."""
        return dot_precision(self.dtype, default_precision(), self._target)


def programs(
    vocoder: Vocoder, dtype: torch.dtype, target: Target
) -> dict[tuple[str, bool], Program]:
    """Every program that calls may need, by precision and whether a condition is given.

    Raises `Unsupported` if an operation has no implementation on the target.
    """
    choose = Chooser(target)
    precisions = {dot_precision(dtype, precision, target) for precision in PRECISIONS}
    return {
        (precision, conditioned): lower(vocoder, Numerics(dtype, precision), conditioned, choose)
        for precision in precisions
        for conditioned in ((False, True) if vocoder.cond is not None else (False,))
    }
