"""The residual branches of a stage as grouped launches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
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
class Reads:
    """What the next layer reads: one tensor in the compute dtype with its LeakyReLU applied, or
    float32 streams whose mean it takes."""

    names: tuple[str, ...]
    activated: bool

    @property
    def means(self) -> int:
        return 0 if self.activated else len(self.names)


@dataclass(frozen=True)
class _Group:
    """Unit k of some branches, longest first, alike but for their sizes: launched together."""

    label: str
    k: int
    branches: tuple[int, ...]
    units: tuple[ResidualUnit, ...]


class ResidualStage:
    """Channel counts that the fused kernels know take one launch for all, or one per unit; others
    one per convolution and one per anti-aliased activation, whose inputs the producer activates.

    There, LeakyReLU is undone where a residual is added, so that a stream is but the activated
    tensor; and where all branches end together, their last convolution writes the mean, for
    ``after``: the upsampling's slope, or None for a reader that wants float32.
    """

    def __init__(
        self, label: str, stage: Stage, scale: Scale, build: Builder, after: float | None
    ) -> None:
        self._label = label
        self._stage = stage
        self._after = after
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
        self._streams: list[str | None] = []
        self._activated: list[str | None] = []
        self._mean: str | None = None

    @property
    def slope_in(self) -> float | None:
        """LeakyReLU slope with which the first units want their input; None if they do not."""
        return self._slope_for([branch[0] for branch in self._stage.branches])

    @property
    def wants_stream(self) -> bool:
        """Whether a first unit reads the float32 stream."""
        return any(self._reads_stream(branch[0]) for branch in self._stage.branches)

    def lower(self, stream: str | None, activated: str | None) -> Reads:
        """Add the launches that take the upsampling's outputs; returns the stage's own."""
        self._streams = [stream] * len(self._stage.branches)
        self._activated = [activated] * len(self._stage.branches)
        if self._whole is not None:
            self._branches(*self._whole)
            return self._reads()
        for group in self._groups:
            if self._fused:
                self._fused_unit(group)
            else:
                self._unit(group)
        return self._reads()

    def _reads(self) -> Reads:
        if self._mean is not None:
            return Reads((self._mean,), self._after is not None)
        return Reads(self._streams_of(range(len(self._stage.branches))), activated=False)

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
        reads: dict[str, Names] = {"inputs": self._streams_of(group.branches)}
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
        reads: dict[str, Names] = {"inputs": self._streams_of(group.branches)}
        self._launch("residual_branch", label, desc, layers, reads, {"outputs": outputs})
        for j, name in zip(group.branches, outputs):
            self._streams[j] = name

    def _unit(self, group: _Group) -> None:
        activations = group.units[0].activations
        inputs: Names = self._activated_of(group) if activations[0].kind != "snake" else ()
        for n, activation in enumerate(activations):
            if activation.kind == "snake":
                inputs = self._snake(group, n, inputs)
            if n + 1 < len(activations):
                inputs = self._conv(group, n, inputs, slope_of(activations[n + 1]))
            else:
                self._last_conv(group, n, inputs)

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
        reads: dict[str, Names] = {"inputs": inputs if n else self._streams_of(group.branches)}
        outputs = self._buffers(label, group, dtype)
        self._launch("alias_free", label, desc, layers, reads, {"outputs": outputs})
        return outputs

    def _conv(self, group: _Group, n: int, inputs: Names, slope: float) -> Names:
        """Convolution n, one that another follows; returns its activated outputs."""
        outputs = self._buffers(f"{group.label}.conv{n}", group, self._build.dtype)
        desc = self._conv_desc(group, n, slope=slope)
        self._launch_conv(group, n, desc, inputs, None, activated=outputs)
        return outputs

    def _last_conv(self, group: _Group, n: int, inputs: Names) -> None:
        """Convolution n adds the residual. It writes what the branches' next readers want."""
        undo = self._slope_for(group.units)
        residuals = self._streams_of(group.branches) if undo is None else self._activated_of(group)
        how = {"residual": True, "residual_slope": undo}
        if self._ends_all(group):
            slope, scale = self._after, self._scale
            dtype = STREAM if slope is None else self._build.dtype
            out = self._build.samples(f"{group.label}.mean", self._stage.channels, dtype, scale)
            desc = self._conv_desc(group, n, slope, stream=slope is None, mean=True, **how)
            written = {"streams" if slope is None else "activated": (out,)}
            self._launch_conv(group, n, desc, inputs, residuals, **written)
            self._mean = out
            return
        following = self._following(group)
        slope = self._slope_for([unit for unit in following if unit])
        stream = any(unit is None or self._reads_stream(unit) for unit in following)
        desc = self._conv_desc(group, n, slope, stream=stream, **how)
        streams = (
            self._moved(group, self._streams, "stream", STREAM, undo is None) if stream else None
        )
        in_place = undo is not None and n > 0
        activated = (
            self._moved(group, self._activated, "activated", self._build.dtype, in_place)
            if slope is not None
            else None
        )
        self._launch_conv(group, n, desc, inputs, residuals, streams=streams, activated=activated)

    def _moved(
        self,
        group: _Group,
        names: list[str | None],
        label: str,
        dtype: torch.dtype,
        in_place: bool,
    ) -> Names:
        """Where the last convolution leaves a branch's tensor. Over the residual if it may: one
        thread reads an element and then writes it. The upsampling's, which other branches read
        too, stays."""
        if group.k == 0 or not in_place:
            fresh = self._buffers(f"{group.label}.{label}", group, dtype)
            for j, name in zip(group.branches, fresh):
                names[j] = name
        return tuple(names[j] or "" for j in group.branches)

    def _conv_desc(
        self,
        group: _Group,
        n: int,
        slope: float | None,
        stream: bool = False,
        **options: Any,
    ) -> ResidualConvDesc:
        layers = [unit.convs[n] for unit in group.units]
        return ResidualConvDesc(
            self._stage.channels,
            self._stage.channels,
            tuple(conv.K for conv in layers),
            tuple(conv.dilation for conv in layers),
            self._build.dtype,
            bias=any(conv.bias for conv in layers),
            stream=stream,
            activated=slope is not None,
            slope=1.0 if slope is None else slope,
            scale=self._scale.scale,
            extra=self._scale.extra,
            precision=self._build.precision,
            **options,
        )

    def _launch_conv(
        self,
        group: _Group,
        n: int,
        desc: ResidualConvDesc,
        inputs: Names,
        residuals: Names,
        streams: Names = None,
        activated: Names = None,
    ) -> None:
        layers = tuple(unit.convs[n] for unit in group.units)
        reads: dict[str, Names] = {"inputs": inputs, "residuals": residuals}
        writes: dict[str, Names] = {"streams": streams, "activated": activated}
        self._launch("residual_conv", f"{group.label}.conv{n}", desc, layers, reads, writes)

    def _following(self, group: _Group) -> list[ResidualUnit | None]:
        """The branches' next units, None after the last."""
        branches = [self._stage.branches[j] for j in group.branches]
        return [branch[group.k + 1] if group.k + 1 < len(branch) else None for branch in branches]

    def _ends_all(self, group: _Group) -> bool:
        """Whether all branches of the stage end with this group."""
        return len(group.branches) == len(self._stage.branches) and not any(self._following(group))

    def _streams_of(self, branches: Iterable[int]) -> tuple[str, ...]:
        return tuple(self._streams[j] or "" for j in branches)

    def _activated_of(self, group: _Group) -> tuple[str, ...]:
        return tuple(self._activated[j] or "" for j in group.branches)

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

    def _reads_stream(self, unit: ResidualUnit) -> bool:
        """Whether a unit reads the float32 stream instead of an activated tensor."""
        return self._slope_for([unit]) is None

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
