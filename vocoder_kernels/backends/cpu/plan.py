"""Where every buffer of a window lies in the pool. Shapes only: needs no weights and no kernels."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ...runtime.memory import PoolPlan, Step, plan_pool
from .lower import INPUT, OUTPUT, Program

FLOAT_BYTES = 4
STRIDE_ROWS, STRIDE_REST = 16, 2
"""Blocks lie a multiple of 16 rows and two more apart, so that they do not share cache sets."""


@dataclass(frozen=True)
class Plan:
    """One window of ``frames`` frames. Lists are by slot."""

    frames: int
    steps: tuple[Step, ...]
    pool: PoolPlan
    offsets_bytes: tuple[int, ...]
    t_strides: tuple[int, ...]

    @property
    def pool_bytes(self) -> int:
        return self.pool.pool_bytes

    def __str__(self) -> str:
        flops = sum(step.flops for step in self.steps)
        lines = [f"window of {self.frames} frames: {flops / 1e9:.2f} GFLOP"]
        for i, step in enumerate(self.steps):
            lines.append(
                f"  {i:>2} {step.op:<9} {step.label:<16} {step.flops / 1e9:>8.3f} GFLOP  "
                f"{', '.join(step.reads)} -> {', '.join(step.writes)}"
            )
        return "\n".join([*lines, str(self.pool)])


def plan(program: Program, frames: int, width: int) -> Plan:
    """``width``: channels per block of the layout."""
    scales = program.vocoder.scales
    rows = {b.name: scales[b.scale].length(frames) for b in program.buffers}
    rows.update({INPUT: frames, OUTPUT: program.vocoder.length(frames)})
    steps = tuple(
        replace(step, flops=step.desc.flops(rows[step.reads[0]], rows[step.writes[0]]))
        for step in program.steps
    )
    strides = {b.name: _stride(rows[b.name]) for b in program.buffers}
    sizes = {
        b.name: -(-b.channels // width) * strides[b.name] * width * FLOAT_BYTES
        for b in program.buffers
    }
    pool = plan_pool(steps, sizes)
    return Plan(
        frames,
        steps,
        pool,
        tuple(pool.offsets[b.name] for b in program.buffers),
        tuple(strides[b.name] for b in program.buffers),
    )


def _stride(rows: int) -> int:
    return -(-(rows - STRIDE_REST) // STRIDE_ROWS) * STRIDE_ROWS + STRIDE_REST
