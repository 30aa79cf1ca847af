"""The launches of one plan, replayed as a CUDA graph once they have been captured."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Callable

import torch

from ...runtime.memory import Step
from .clock import Clock
from .pack import PackedWeights
from .plan import Plan
from .pool import StaticPool
from .steps import RANGES, Names
from .tune import Tuner

MOST_CAPTURES = 3
"""Attempts after which a plan stays uncaptured."""

_capturing = threading.Lock()


class Runner:
    """A plan bound to its memory. ``launches`` are calls without arguments, in order."""

    def __init__(
        self,
        plan: Plan,
        pool: StaticPool,
        packed: PackedWeights,
        external: Mapping[str, torch.Tensor],
        clock: Clock,
    ) -> None:
        offsets = plan.pool.offsets
        self._views = {
            name: pool.view(offsets[name], plan.shape(name), buffer.dtype)
            for name, buffer in plan.program.buffers.items()
        }
        self._views.update(external)
        self._plan = plan
        self._packed = packed
        self._clock = clock
        self.launches: Sequence[Callable[[], None]] = ()
        self.configure(plan.configs)
        self._graph: torch.cuda.CUDAGraph | None = None
        self.failed_captures = 0

    def view(self, name: str) -> torch.Tensor:
        return self._views[name]

    def configure(self, configs: Sequence[Any]) -> None:
        """Launch with these configurations, one per step of the program; before any capture."""
        self.launches = [
            self.bound(step, config)
            for step, config in zip(self._plan.program.steps, configs)
            if step.desc is not None
        ]
        self._compiled = False

    def tune(self, tuner: Tuner) -> None:
        """Take the tuner's configurations, measured over full windows."""
        ranges = self.view(RANGES)
        ranges[:, 0] = 0
        ranges[:, 1] = self._plan.frames
        self.configure(tuner.configs(self._plan, self.bound))

    @property
    def captured(self) -> bool:
        return self._graph is not None

    def compile(self) -> None:
        """Load every kernel by launching it over no valid frames."""
        if not self._compiled:
            self.view(RANGES).zero_()
            self._launch_all()
            self._compiled = True

    def capture(self, stream: torch.cuda.Stream) -> None:
        """Capture the launches, compiled before. Raises what the capture raises; the plan can then
        still run."""
        graph = torch.cuda.CUDAGraph()
        before = torch.cuda.current_stream()
        self.failed_captures += 1
        try:
            # One capture at a time: another's start synchronises the device.
            mode = "thread_local"
            with _capturing, torch.cuda.graph(graph, stream=stream, capture_error_mode=mode):
                self._launch_all()
        finally:
            # A capture that was invalidated leaves its stream the current one.
            torch.cuda.set_stream(before)
        self.failed_captures = 0
        self._graph = graph

    def run(self) -> None:
        self._clock.run(self._launch_all if self._graph is None else self._graph.replay)

    def release(self) -> None:
        """Drop graph and views; a graph in flight ends first."""
        self._graph = None
        self._views.clear()
        self.launches = ()

    def _launch_all(self) -> None:
        for launch in self.launches:
            launch()

    def bound(self, step: Step, config: Any) -> Callable[[], None]:
        """The launch of a step, as a call without arguments."""
        work = step.desc
        tensors = {argument: self._tensors(names) for argument, names in work.tensors}
        launch = work.choice.module.launch
        return partial(launch, work.desc, config, **tensors, **self._packed.of(step))

    def _tensors(self, names: Names) -> Any:
        if names is None or isinstance(names, str):
            return names and self._views[names]
        return [self._views[name] for name in names]
