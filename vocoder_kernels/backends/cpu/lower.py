"""From a vocoder to steps of the native core: what each reads, writes and adds to a sequence."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Callable, Protocol

import torch

from ... import native
from ...native import NO_SLOT
from ...program import Activation, Conv1d, ResidualUnit, Stage, Vocoder
from ...runtime.memory import Step

INPUT, OUTPUT = "x", "audio"
"""The caller's tensors: not in the pool."""

Slot = Callable[[str], int]


class Weights:
    """Float32 weights by name, kept alive while their addresses are in use."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        self._tensors = {name: t.detach().float().contiguous() for name, t in tensors.items()}

    def get(self, name: str) -> torch.Tensor | None:
        return self._tensors.get(name)

    def condition(self, name: str) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Copies of the weight ``[C, gin]`` and bias ``[C]`` of the layer that takes ``g``."""
        weight, bias = self._tensors[f"{name}.weight"][:, :, 0], self.get(f"{name}.bias")
        return weight.clone(), None if bias is None else bias.clone()

    def address(self, name: str) -> int:
        """0 for one that does not exist."""
        tensor = self.get(name)
        return 0 if tensor is None else tensor.data_ptr()


class Desc(Protocol):
    """What a step computes; adds itself to a sequence."""

    def add(self, sequence: native.NativeSequence, slot: Slot, weights: Weights) -> None: ...

    def flops(self, rows_in: int, rows_out: int) -> int: ...


@dataclass(frozen=True)
class Written:
    """Names of a step's outputs, as they are and activated for the next step; either may be ""."""

    raw: str
    act: str
    slope: float

    @classmethod
    def before(cls, name: str, activation: Activation) -> Written:
        """What a reader behind ``activation`` needs."""
        if activation.kind == "leaky_relu":
            return cls("", f"{name}.act", activation.slope)
        return cls(name, "", 0.0)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.raw, self.act) if name)

    def arguments(self, slot: Slot) -> dict:
        return {
            name: slot(tensor) if tensor else NO_SLOT
            for name, tensor in (("raw", self.raw), ("act", self.act))
        }


@dataclass(frozen=True)
class HeadDesc:
    conv: Conv1d
    out: Written

    def add(self, sequence: native.NativeSequence, slot: Slot, weights: Weights) -> None:
        sequence.add_head(
            **self.out.arguments(slot),
            slope=self.out.slope,
            C_in=self.conv.C_in,
            C_out=self.conv.C_out,
            K=self.conv.K,
            dilation=self.conv.dilation,
            w=weights.address(f"{self.conv.name}.weight"),
            bias=weights.address(f"{self.conv.name}.bias"),
        )

    def flops(self, rows_in: int, rows_out: int) -> int:
        return self.conv.flops(rows_out)


@dataclass(frozen=True)
class UpsampleDesc:
    stage: Stage
    x: str
    out: Written

    def add(self, sequence: native.NativeSequence, slot: Slot, weights: Weights) -> None:
        up = self.stage.up
        sequence.add_upsample(
            x=slot(self.x),
            **self.out.arguments(slot),
            slope=self.out.slope,
            C_in=up.C_in,
            C_out=up.C_out,
            K=up.K,
            stride=up.stride,
            padding=up.padding,
            w=weights.address(f"{up.name}.weight"),
            bias=weights.address(f"{up.name}.bias"),
        )

    def flops(self, rows_in: int, rows_out: int) -> int:
        return self.stage.up.flops(rows_in)


@dataclass(frozen=True)
class StageDesc:
    stage: Stage
    x: Written
    out: Written
    algorithm: int

    def add(self, sequence: native.NativeSequence, slot: Slot, weights: Weights) -> None:
        branches = [[_unit(unit, weights) for unit in b] for b in self.stage.branches]
        sequence.add_stage(
            x=slot(self.x.raw),
            x_act=slot(self.x.act) if self.x.act else NO_SLOT,
            **self.out.arguments(slot),
            next_slope=self.out.slope,
            C=self.stage.channels,
            slope=self.x.slope,
            branches=branches,
            up=weights.address("filter.up"),
            down=weights.address("filter.down"),
            algorithm=self.algorithm,
            chunk_rows=native.CHUNK_BY_COST,
        )

    def flops(self, rows_in: int, rows_out: int) -> int:
        return sum(conv.flops(rows_out) for conv in self.stage.convs)


@dataclass(frozen=True)
class SnakeDesc:
    activation: Activation
    C: int
    x: str
    y: str

    def add(self, sequence: native.NativeSequence, slot: Slot, weights: Weights) -> None:
        sequence.add_snake(
            x=slot(self.x),
            y=slot(self.y),
            C=self.C,
            alpha=weights.address(f"{self.activation.name}.alpha"),
            inv_beta=weights.address(f"{self.activation.name}.inv_beta"),
            up=weights.address("filter.up"),
            down=weights.address("filter.down"),
        )

    def flops(self, rows_in: int, rows_out: int) -> int:
        return self.activation.flops(self.C * rows_out)


@dataclass(frozen=True)
class TailDesc:
    conv: Conv1d
    clamp: bool
    x: str

    def add(self, sequence: native.NativeSequence, slot: Slot, weights: Weights) -> None:
        bias = weights.get(f"{self.conv.name}.bias")
        sequence.add_tail(
            x=slot(self.x),
            C=self.conv.C_in,
            K=self.conv.K,
            w=weights.address(f"{self.conv.name}.weight"),
            bias=0.0 if bias is None else bias.item(),
            clamp=self.clamp,
        )

    def flops(self, rows_in: int, rows_out: int) -> int:
        return self.conv.flops(rows_out)


def _unit(unit: ResidualUnit, weights: Weights) -> list[tuple[int, int, int, int, int, int]]:
    return [
        (
            conv.K,
            conv.dilation,
            weights.address(f"{conv.name}.weight"),
            weights.address(f"{conv.name}.bias"),
            weights.address(f"{activation.name}.alpha") if activation.kind == "snake" else 0,
            weights.address(f"{activation.name}.inv_beta") if activation.kind == "snake" else 0,
        )
        for activation, conv in zip(unit.activations, unit.convs)
    ]


@dataclass(frozen=True)
class Buffer:
    """A tensor between steps: ``channels`` at the vocoder's time scale number ``scale``."""

    name: str
    channels: int
    scale: int


@dataclass(frozen=True)
class Program:
    """Steps in order and the buffers between them; a buffer's index is its slot."""

    vocoder: Vocoder
    steps: tuple[Step, ...]
    buffers: tuple[Buffer, ...]

    def slot(self, name: str) -> int:
        return next(i for i, buffer in enumerate(self.buffers) if buffer.name == name)


def lower(vocoder: Vocoder, direct: int = 0) -> Program:
    """One step for the head, two per stage, one for a last snake, one for the tail. The first
    ``direct`` stages, which are the widest, transform no weights."""
    steps: list[Step] = []
    buffers: list[Buffer] = []

    def step(op: str, label: str, reads: tuple[str, ...], out: Written, C: int, scale: int, desc):
        steps.append(Step(op, label, reads, out.names, desc=desc))
        buffers.extend(Buffer(name, C, scale) for name in out.names)

    head, last = vocoder.head, len(vocoder.stages)
    x = Written.before("head", vocoder.stages[0].activation)
    step("head", head.name, (INPUT,), x, head.C_out, 0, HeadDesc(head, x))
    for i, stage in enumerate(vocoder.stages):
        first = stage.branches[0][0].activations[0]
        name, C = f"stages.{i}", stage.channels
        act = f"{name}.up.act" if first.kind == "leaky_relu" else ""
        inside = Written(f"{name}.up", act, first.slope)
        step(
            "upsample",
            stage.up.name,
            x.names,
            inside,
            C,
            i + 1,
            UpsampleDesc(stage, x.names[0], inside),
        )
        after = vocoder.stages[i + 1].activation if i + 1 < last else vocoder.activation_post
        x = Written.before(name, after)
        algorithm = native.DIRECT if i < direct else native.BY_COST
        step("stage", name, inside.names, x, C, i + 1, StageDesc(stage, inside, x, algorithm))
    post = vocoder.activation_post
    if post.kind == "snake":
        y = Written("activation_post", "", 0.0)
        desc = SnakeDesc(post, vocoder.conv_post.C_in, x.raw, y.raw)
        step("snake", post.name, x.names, y, vocoder.conv_post.C_in, last, desc)
        x = y
    tail = TailDesc(vocoder.conv_post, vocoder.end == "clamp", x.names[0])
    steps.append(Step("tail", vocoder.conv_post.name, x.names, (OUTPUT,), desc=tail))
    return Program(vocoder, tuple(steps), tuple(buffers))
