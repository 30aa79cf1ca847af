"""What lowering produces: steps, what each launches, and the buffers between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional, Union

import torch

from ...program import Activation, Scale
from ...runtime.memory import Step
from .choose import Choice, Chooser

STREAM = torch.float32
"""Dtype of residual streams and of the condition."""
INPUT, CONDITION, RANGES, SOURCE, OUTPUT = "input", "condition", "ranges", "source", "output"
"""Buffers that the host fills or reads. ``source`` is constant and lies outside the pool."""
Dim = Union[str, int]
Names = Optional[Union[str, tuple[str, ...]]]
FRAMES = Scale()


@dataclass(frozen=True)
class Numerics:
    """``dtype``: of input, output, weights and convolution inputs; ``precision``: how float32
    multiplies, "ieee" or "tf32"."""

    dtype: torch.dtype
    precision: str = "ieee"


@dataclass(frozen=True)
class Buffer:
    """``dims``: sizes, or "B" for the rows and "T" for the samples of a window at ``scale``."""

    dims: tuple[Dim, ...]
    dtype: torch.dtype
    scale: Scale = FRAMES

    def shape(self, frames: int, batch: int) -> tuple[int, ...]:
        sizes = {"B": batch, "T": self.scale.length(frames)}
        return tuple(sizes[d] if isinstance(d, str) else d for d in self.dims)

    def nbytes(self, frames: int, batch: int) -> int:
        count = self.dtype.itemsize
        for size in self.shape(frames, batch):
            count *= size
        return count


@dataclass(frozen=True)
class Work:
    """``desc`` of a `Step` that launches a kernel.

    tensors: the launch's tensor arguments by name, each a buffer, several or none.
    layers: what its weights are packed from.
    capacity: scale of the samples that its grid covers.
    """

    desc: Any
    choice: Choice
    tensors: tuple[tuple[str, Names], ...]
    layers: tuple[Any, ...]
    capacity: Scale


@dataclass(frozen=True)
class Program:
    """Steps in order, the first copying in and the last copying out, their buffers, and remarks on
    what was not chosen."""

    steps: tuple[Step, ...]
    buffers: Mapping[str, Buffer]
    notes: tuple[str, ...]

    @property
    def launches(self) -> tuple[Step, ...]:
        """The steps that launch a kernel: the nodes of a graph."""
        return tuple(s for s in self.steps if s.desc is not None)


class Builder:
    """Collects buffers and steps, choosing an implementation for each launch."""

    def __init__(self, numerics: Numerics, choose: Chooser) -> None:
        self.dtype = numerics.dtype
        self.precision = numerics.precision
        self.choose = choose
        self._steps: list[Step] = []
        self._buffers: dict[str, Buffer] = {}
        self._notes: list[str] = []

    def buffer(
        self, name: str, dims: tuple[Dim, ...], dtype: torch.dtype, scale: Scale = FRAMES
    ) -> str:
        self._buffers[name] = Buffer(dims, dtype, scale)
        return name

    def samples(self, name: str, C: int, dtype: torch.dtype, scale: Scale) -> str:
        """A channels-last buffer ``[B, T_cap, C]``."""
        return self.buffer(name, ("B", "T", C), dtype, scale)

    def launch(
        self,
        op: str,
        label: str,
        desc: Any,
        layers: tuple[Any, ...],
        reads: Mapping[str, Names],
        writes: Mapping[str, Names],
        capacity: Scale,
    ) -> None:
        """Add a step; every launch reads the valid ranges. Raises `Unsupported`."""
        reads = {**reads, RANGES: RANGES}
        choice = self.choose(op, desc)
        work = Work(desc, choice, (*reads.items(), *writes.items()), layers, capacity)
        self._steps.append(Step(op, label, _flat(reads), _flat(writes), desc=work))

    def copy(self, op: str, reads: tuple[str, ...], writes: tuple[str, ...]) -> None:
        self._steps.append(Step(op, op, reads, writes))

    def note(self, text: str) -> None:
        self._notes.append(text)

    def program(self) -> Program:
        return Program(tuple(self._steps), self._buffers, tuple(self._notes))


def slope_of(activation: Activation) -> float:
    """LeakyReLU slope with which a producer writes this activation; 1.0 for none, and for a snake,
    which is no producer's business."""
    return activation.slope if activation.kind == "leaky_relu" else 1.0


def _flat(arguments: Mapping[str, Names]) -> tuple[str, ...]:
    names: list[str] = []
    for value in arguments.values():
        names += [value] if isinstance(value, str) else value or ()
    return tuple(dict.fromkeys(names))
