"""The residual branches of a stage as grouped launches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ...ops.alias_free import AliasFreeDesc
from ...ops.residual_branch import ResidualBranchDesc
from ...ops.residual_conv import ResidualConvDesc
from ...ops.residual_unit import ResidualUnitDesc
from ...program import ResidualUnit, Scale, Stage
from .choose import Unsupported
from .steps import STREAM, Builder, Names, slope_of


@dataclass(frozen=True)
class _Group:
    """Unit k of some branches, longest first, alike but for their sizes: launched together."""

    label: str
    k: int
    branches: tuple[int, ...]
    units: tuple[ResidualUnit, ...]


class ResidualStage:
    """Channel counts that the fused kernels know take one launch for all, or one per unit; others
    one per convolution and one per anti-aliased activation, whose inputs the producer activates."""

    def __init__(self, label: str, stage: Stage, scale: Scale, build: Builder) -> None:
        self._label = label
        self._stage = stage
        self._scale = scale
        self._build = build
        self._groups = [
            _Group(f"{label}.unit{k}", k, branches, tuple(stage.branches[j][k] for j in branches))
            for k in range(max(map(len, stage.branches)))
            for branches in _alike(stage, k)
        ]
        why_not = next(filter(None, map(self._why_not_fused, self._groups)), "")
        self._whole = None if why_not else self._fused_branches()
        self._fused = not why_not
        if why_not:
            build.note(f"{label} takes a launch per convolution, since {why_not}")
        self._streams: list[str] = []
        self._activated: list[str | None] = []

    @property
    def slope_in(self) -> float | None:
        """LeakyReLU slope with which the first units want their input too; None if they do not."""
        return self._slope_for([branch[0] for branch in self._stage.branches])

    def lower(self, stream: str, activated: str | None) -> tuple[str, ...]:
        """Add the launches that take the upsampling's outputs; returns the branches' streams."""
        self._streams = [stream] * len(self._stage.branches)
        self._activated = [activated] * len(self._stage.branches)
        if self._whole is not None:
            self._branches(*self._whole)
            return tuple(self._streams)
        for group in self._groups:
            if self._fused:
                self._fused_unit(group)
            else:
                self._unit(group)
        return tuple(self._streams)

    def _why_not_fused(self, group: _Group) -> str:
        """Why no kernel computes whole units, or an empty string."""
        for unit in group.units:
            first, last = unit.convs[0], unit.convs[-1]
            same = first.K == last.K and len(set(map(_kind, unit.activations))) == 1
            if len(unit.convs) > 2 or not same or (unit.convs[1:] and last.dilation != 1):
                return "its units are not two convolutions alike, the second without dilation"
        choice, why_not = self._build.choose.find("residual_unit", self._unit_desc(group))
        return "" if choice else why_not

    def _unit_desc(self, group: _Group) -> ResidualUnitDesc:
        activation = group.units[0].activations[0]
        return ResidualUnitDesc(
            self._stage.channels,
            tuple(unit.convs[0].K for unit in group.units),
            tuple(unit.convs[0].dilation for unit in group.units),
            self._build.dtype,
            convs=len(group.units[0].convs),
            activation="snake" if activation.kind == "snake" else "leaky_relu",
            slope=slope_of(activation),
            scale=self._scale.scale,
            extra=self._scale.extra,
        )

    def _fused_unit(self, group: _Group) -> None:
        desc = self._unit_desc(group)
        reads: dict[str, Names] = {"inputs": self._streams_of(group)}
        outputs = self._buffers(f"{group.label}.stream", group, STREAM)
        self._launch("residual_unit", group.label, desc, group.units, reads, {"outputs": outputs})
        for j, name in zip(group.branches, outputs):
            self._streams[j] = name

    def _fused_branches(self) -> tuple[_Group, ResidualBranchDesc] | None:
        """What one launch computes of the whole stage, if a kernel does."""
        group = self._groups[0]
        branches = [self._stage.branches[j] for j in group.branches]
        first = self._unit_desc(group)
        alike = {(len(u.convs), *map(_kind, u.activations)) for b in branches for u in b}
        same_K = all(len({unit.convs[0].K for unit in branch}) == 1 for branch in branches)
        if len(branches) < len(self._stage.branches) or len(alike) > 1 or not same_K or first.snake:
            return None
        desc = ResidualBranchDesc(
            first.C,
            first.K,
            tuple(tuple(unit.convs[0].dilation for unit in branch) for branch in branches),
            first.dtype,
            first.convs,
            first.slope,
            first.scale,
            first.extra,
        )
        return (group, desc) if self._build.choose.find("residual_branch", desc)[0] else None

    def _branches(self, group: _Group, desc: ResidualBranchDesc) -> None:
        label = f"{self._label}.branches"
        layers = tuple(self._stage.branches[j] for j in group.branches)
        outputs = self._buffers(f"{label}.stream", group, STREAM)
        reads: dict[str, Names] = {"inputs": self._streams_of(group)}
        self._launch("residual_branch", label, desc, layers, reads, {"outputs": outputs})
        for j, name in zip(group.branches, outputs):
            self._streams[j] = name

    def _unit(self, group: _Group) -> None:
        inputs: Names = tuple(self._activated[j] or "" for j in group.branches)
        activations = group.units[0].activations
        for n, activation in enumerate(activations):
            if activation.kind == "snake":
                inputs = self._snake(group, n, inputs)
            last = n + 1 == len(activations)
            slope = self._slope_after(group) if last else slope_of(activations[n + 1])
            inputs = self._conv(group, n, inputs, slope, last)
        for i, j in enumerate(group.branches):
            self._activated[j] = inputs[i] if inputs else None

    def _snake(self, group: _Group, n: int, inputs: Names) -> Names:
        """Activation n; the first reads the streams."""
        layers = tuple(unit.activations[n] for unit in group.units)
        dtype, scale = self._build.dtype, self._scale
        desc = AliasFreeDesc(
            self._stage.channels,
            len(layers),
            dtype if n else STREAM,
            dtype,
            scale.scale,
            scale.extra,
        )
        label = f"{group.label}.snake{n}"
        reads: dict[str, Names] = {"inputs": inputs if n else self._streams_of(group)}
        outputs = self._buffers(label, group, dtype)
        self._launch("alias_free", label, desc, layers, reads, {"outputs": outputs})
        return outputs

    def _conv(self, group: _Group, n: int, inputs: Names, slope: float | None, last: bool) -> Names:
        """Convolution n; the last moves on the streams. With a ``slope`` it also writes the
        activated result, whose buffers are returned."""
        layers = tuple(unit.convs[n] for unit in group.units)
        build, label = self._build, f"{group.label}.conv{n}"
        desc = ResidualConvDesc(
            self._stage.channels,
            self._stage.channels,
            tuple(conv.K for conv in layers),
            tuple(conv.dilation for conv in layers),
            build.dtype,
            bias=any(conv.bias for conv in layers),
            residual=last,
            stream=last,
            activated=slope is not None,
            slope=1.0 if slope is None else slope,
            scale=self._scale.scale,
            extra=self._scale.extra,
            precision=build.precision,
        )
        reads: dict[str, Names] = {"inputs": inputs, "residuals": None}
        writes: dict[str, Names] = {"streams": None, "activated": None}
        if last:
            reads["residuals"] = self._streams_of(group)
            writes["streams"] = self._move_streams(group)
        if slope is not None:
            writes["activated"] = self._buffers(label, group, build.dtype)
        self._launch("residual_conv", label, desc, layers, reads, writes)
        return writes["activated"]

    def _move_streams(self, group: _Group) -> Names:
        """A branch's own stream is updated in place: one thread reads an element and then writes
        it. The first is the upsampling's, which other branches read too."""
        if group.k == 0:
            names = self._buffers(f"{group.label}.stream", group, STREAM)
            for j, name in zip(group.branches, names):
                self._streams[j] = name
        return self._streams_of(group)

    def _streams_of(self, group: _Group) -> tuple[str, ...]:
        return tuple(self._streams[j] for j in group.branches)

    def _buffers(self, label: str, group: _Group, dtype: torch.dtype) -> tuple[str, ...]:
        C, scale = self._stage.channels, self._scale
        return tuple(self._build.samples(f"{label}.{j}", C, dtype, scale) for j in group.branches)

    def _launch(
        self,
        op: str,
        label: str,
        desc: Any,
        layers: tuple[Any, ...],
        reads: dict[str, Names],
        writes: dict[str, Names],
    ) -> None:
        self._build.launch(op, label, desc, layers, reads, writes, self._scale)

    def _slope_after(self, group: _Group) -> float | None:
        branches = [self._stage.branches[j] for j in group.branches]
        return self._slope_for([b[group.k + 1] for b in branches if group.k + 1 < len(b)])

    def _slope_for(self, units: Sequence[ResidualUnit]) -> float | None:
        """Slope with which to write the activated input of ``units``; None if none reads it."""
        first = [] if self._fused else [unit.activations[0] for unit in units]
        slopes = {slope_of(activation) for activation in first if activation.kind != "snake"}
        if len(slopes) > 1:
            raise Unsupported(
                "residual units that share an input: expected one LeakyReLU slope, "
                f"got {sorted(slopes)}"
            )
        return slopes.pop() if slopes else None


def _alike(stage: Stage, k: int) -> list[tuple[int, ...]]:
    """Branches that have a unit k, in groups whose units differ in sizes alone, longest first."""
    groups: dict[Any, list[int]] = {}
    for j, branch in enumerate(stage.branches):
        if k < len(branch):
            groups.setdefault(tuple(map(_kind, branch[k].activations)), []).append(j)

    def cost(j: int) -> int:
        return sum(conv.flops(1) for conv in stage.branches[j][k].convs)

    return [tuple(sorted(group, key=cost, reverse=True)) for group in groups.values()]


def _kind(activation: Any) -> tuple[str, float]:
    return activation.kind, activation.slope
