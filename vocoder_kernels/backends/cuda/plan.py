"""A program placed in memory for windows of one size. Needs no device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from ...ops.support import Target
from ...runtime.memory import PoolPlan, Step, plan_pool
from .steps import Program
from .window import Limits, batches


@dataclass(frozen=True)
class Plan:
    """``batch`` windows of up to ``frames`` frames; ``configs``: one per step, None for copies."""

    program: Program
    frames: int
    batch: int
    configs: tuple[Any, ...]
    pool: PoolPlan

    def shape(self, name: str) -> tuple[int, ...]:
        return self.program.buffers[name].shape(self.frames, self.batch)

    def flops(self, step: Step) -> int:
        """Multiply-adds counted as two; anti-aliased activations are not counted."""
        count = getattr(step.desc.desc, "flops", None)
        if count is None:
            return 0
        return self.batch * count(step.desc.capacity.length(self.frames))

    def nbytes(self, step: Step) -> int:
        """Bytes of the step's buffers, each read or written once; weights come on top."""
        found = map(self.program.buffers.get, (*step.reads, *step.writes))
        return sum(buffer.nbytes(self.frames, self.batch) for buffer in found if buffer)

    def __str__(self) -> str:
        lines = [
            f"{self.batch} x {self.frames} frames, {len(self.program.launches)} launches, "
            f"{sum(map(self.flops, self.program.launches)) / 1e9:.2f} GFLOP, "
            f"{sum(map(self.nbytes, self.program.launches)) / 1e6:.1f} MB between them"
        ]
        for step, config in zip(self.program.steps, self.configs):
            if step.desc is not None:
                choice = step.desc.choice
                lines.append(
                    f"  {step.label:<20} {choice.name:<7} {self.flops(step) / 1e6:>9.1f} MFLOP "
                    f"{self.nbytes(step) / 1e3:>9.1f} kB  {config}"
                )
        choices = {step.desc.choice for step in self.program.launches}
        lines += sorted(f"  {c.op} by {c.name}, since {c.why_not}" for c in choices if c.why_not)
        lines += [f"  {note}" for note in self.program.notes]
        return "\n".join([*lines, str(self.pool)])


def plan(program: Program, frames: int, batch: int, target: Target) -> Plan:
    """Offsets of every buffer and the configuration of every launch."""
    configs = tuple(_config(step, frames, batch, target) for step in program.steps)
    return Plan(program, frames, batch, configs, place(program, frames, batch))


def place(program: Program, frames: int, batch: int) -> PoolPlan:
    """Offsets of every buffer."""
    sizes = {name: b.nbytes(frames, batch) for name, b in program.buffers.items()}
    return plan_pool(program.steps, sizes)


def _config(step: Step, frames: int, batch: int, target: Target) -> Any:
    if step.desc is None:
        return None
    T_cap = step.desc.capacity.length(frames)
    return step.desc.choice.module.choose_config(step.desc.desc, batch, T_cap, target)


def explain(program: Program, frames: int, limits: Limits, target: Target) -> str:
    """The plans of every graph that an utterance of ``frames`` frames runs, and how often."""
    uses = Counter((part.frames, part.batch) for part in batches([frames], limits))
    return "\n".join(
        f"{count} graph launch{'es' if count > 1 else ''} of\n{plan(program, *size, target)}"
        for size, count in uses.items()
    )
