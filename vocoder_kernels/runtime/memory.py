"""A static memory pool from the liveness of buffers. Needs no device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

ALIGNMENT_BYTES = 256


@dataclass(frozen=True)
class Step:
    """One launch: which buffers it reads and writes. ``desc`` is the backend's own description.

    ``scratch`` names a buffer that lives during this step alone.
    """

    op: str
    label: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    scratch: tuple[str, ...] = ()
    flops: int = 0
    desc: Any = None


@dataclass(frozen=True)
class Placement:
    """A buffer in the pool: bytes ``[offset, offset + size)``, live in steps ``first..last``."""

    name: str
    offset: int
    size: int
    first: int
    last: int

    def overlaps(self, other: Placement) -> bool:
        in_time = self.first <= other.last and other.first <= self.last
        in_space = (
            self.offset < other.offset + other.size and other.offset < self.offset + self.size
        )
        return in_time and in_space


@dataclass(frozen=True)
class PoolPlan:
    placements: tuple[Placement, ...]
    pool_bytes: int

    @property
    def offsets(self) -> dict[str, int]:
        return {p.name: p.offset for p in self.placements}

    @property
    def live_bytes(self) -> int:
        """Most bytes live at once: what no plan can go below."""
        steps = 1 + max((p.last for p in self.placements), default=-1)
        return max(
            (sum(p.size for p in self.placements if p.first <= i <= p.last) for i in range(steps)),
            default=0,
        )

    def check(self) -> None:
        """Raises ``RuntimeError`` if two buffers that are live together share a byte."""
        for i, a in enumerate(self.placements):
            for b in self.placements[i + 1 :]:
                if a.overlaps(b):
                    raise RuntimeError(f"memory plan: live buffers {a.name} and {b.name} overlap")

    def __str__(self) -> str:
        lines = [f"pool of {self.pool_bytes} bytes, {self.live_bytes} live at most"]
        for p in sorted(self.placements, key=lambda p: (p.first, p.offset)):
            lines.append(
                f"  {p.name:<28} steps {p.first:>3}-{p.last:<3} at {p.offset:>12} size {p.size:>12}"
            )
        return "\n".join(lines)


def plan_pool(
    steps: Sequence[Step], sizes: Mapping[str, int], alignment: int = ALIGNMENT_BYTES
) -> PoolPlan:
    """Place every buffer named by ``steps`` (those in ``sizes``, in bytes; others are external).

    Greedy by size, each at the lowest free offset: deterministic and close to the live maximum.
    """
    lives: dict[str, list[int]] = {}
    for i, step in enumerate(steps):
        for name in (*step.reads, *step.writes, *step.scratch):
            if name in sizes:
                lives.setdefault(name, [i, i])[1] = i
    placed: list[Placement] = []
    for name in sorted(lives, key=lambda n: (-sizes[n], n)):
        first, last = lives[name]
        size = -(-sizes[name] // alignment) * alignment
        offset = 0
        for other in sorted(placed, key=lambda p: p.offset):
            if other.last < first or last < other.first:
                continue
            if offset + size <= other.offset:
                break
            offset = max(offset, other.offset + other.size)
        placed.append(Placement(name, offset, size, first, last))
    plan = PoolPlan(tuple(placed), max((p.offset + p.size for p in placed), default=0))
    plan.check()
    return plan
