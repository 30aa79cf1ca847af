"""A vocoder as the launches that compute it. Needs no device."""

from __future__ import annotations

from dataclasses import replace

import torch

from ...ops.alias_free import AliasFreeDesc
from ...ops.head import HeadDesc
from ...ops.residual_conv import ResidualConvDesc
from ...ops.tail import TailDesc
from ...ops.upsample import UpsampleDesc
from ...program import Conv1d, Scale, Stage, Vocoder
from .choose import Chooser
from .residual import Reads, ResidualStage
from .steps import (
    CONDITION,
    INPUT,
    OUTPUT,
    RANGES,
    SOURCE,
    STREAM,
    Builder,
    Names,
    Numerics,
    Program,
    slope_of,
)


def lower(vocoder: Vocoder, numerics: Numerics, conditioned: bool, choose: Chooser) -> Program:
    """The program for calls with (``conditioned``) or without a condition.

    Raises `Unsupported` if an operation has no implementation.
    """
    lowering = _Lowering(vocoder, Builder(numerics, choose))
    reads = lowering.head(conditioned)
    for i, stage in enumerate(vocoder.stages):
        reads = lowering.stage(i, stage, reads)
    lowering.tail(reads.names, vocoder.scales[-1])
    return lowering.build.program()


class _Lowering:
    def __init__(self, vocoder: Vocoder, build: Builder) -> None:
        self.vocoder = vocoder
        self.build = build

    def head(self, conditioned: bool) -> Reads:
        """Copies in, then the first convolution; returns what it writes, activated."""
        head, cond, build = self.vocoder.head, self.vocoder.cond, self.build
        copied = [
            build.buffer(INPUT, ("B", head.C_in, "T"), build.dtype),
            build.buffer(RANGES, ("B", 2), torch.int32),
        ]
        reads: dict[str, Names] = {"x": INPUT, "source": SOURCE, "cond": None}
        desc = HeadDesc(
            head.C_in,
            head.C_out,
            head.K,
            build.dtype,
            dilation=head.dilation,
            bias=head.bias,
            slope=slope_of(self.vocoder.stages[0].activation),
            precision=build.precision,
        )
        layers: tuple[Conv1d, ...] = (head,)
        if cond is None:
            build.copy("copy_in", (), tuple(copied))
        else:
            folded = self._folded(desc, cond)
            layers = (head, cond) if folded else layers
            if conditioned:
                copied.append(build.buffer(CONDITION, ("B", 1, cond.C_in), build.dtype))
            build.copy("copy_in", (), tuple(copied))
            if conditioned:
                reads["cond"] = CONDITION if folded else self.condition(cond)
                desc = folded or replace(desc, cond=True)
        out = build.samples("head", head.C_out, build.dtype, Scale())
        build.launch("head", "head", desc, layers, reads, {"out": out}, Scale())
        return Reads((out,), activated=True)

    def _folded(self, desc: HeadDesc, cond: Conv1d) -> HeadDesc | None:
        """The head that multiplies the condition itself, if the implementation that would add a
        condition can: one launch less with a speaker."""
        added = replace(desc, cond=True)
        folded = replace(added, C_cond=cond.C_in)
        one, other = (self.build.choose.find("head", d)[0] for d in (added, folded))
        same = one is not None and other is not None and one.name == other.name
        return folded if same and cond.K == 1 else None

    def condition(self, cond: Conv1d) -> str:
        """One vector per row: a convolution over one sample, whatever the number of frames."""
        once = Scale(0, 1)
        desc = ResidualConvDesc(
            cond.C_in,
            cond.C_out,
            (1,),
            (1,),
            self.build.dtype,
            bias=cond.bias,
            stream=True,
            activated=False,
            scale=once.scale,
            extra=once.extra,
            precision=self.build.precision,
        )
        out = self.build.buffer("cond", ("B", 1, cond.C_out), STREAM)
        reads: dict[str, Names] = {"inputs": (CONDITION,), "residuals": None}
        writes: dict[str, Names] = {"streams": (out,)}
        self.build.launch("residual_conv", "cond", desc, (cond,), reads, writes, once)
        return out

    def stage(self, i: int, stage: Stage, reads: Reads) -> Reads:
        """From the head's or the stage before's outputs to this stage's."""
        before, after = self.vocoder.scales[i : i + 2]
        following = self.vocoder.stages[i + 1 :]
        slope_after = slope_of(following[0].activation) if following else None
        residual = ResidualStage(f"stage{i}", stage, after, self.build, slope_after)
        up, build, slope = stage.up, self.build, residual.slope_in
        desc = UpsampleDesc(
            up.C_in,
            up.C_out,
            up.K,
            up.stride,
            up.padding,
            build.dtype,
            inputs=reads.means,
            slope_in=1.0 if reads.activated else slope_of(stage.activation),
            slope_out=1.0 if slope is None else slope,
            bias=up.bias,
            stream=residual.wants_stream,
            activated=slope is not None,
            scale=before.scale,
            extra=before.extra,
            precision=build.precision,
        )
        stream = activated = None
        if residual.wants_stream:
            stream = build.samples(f"stage{i}.x", up.C_out, STREAM, after)
        if slope is not None:
            activated = build.samples(f"stage{i}.x.activated", up.C_out, build.dtype, after)
        inputs: dict[str, Names] = {"inputs": reads.names}
        writes: dict[str, Names] = {"stream": stream, "activated": activated}
        build.launch("upsample", f"stage{i}.up", desc, (up,), inputs, writes, before)
        return residual.lower(stream, activated)

    def tail(self, reads: tuple[str, ...], scale: Scale) -> None:
        """Activation, last convolution and end. Where no tail has a snake, it is a step before."""
        post, activation, build = self.vocoder.conv_post, self.vocoder.activation_post, self.build
        snake = activation.kind == "snake"

        def desc(snake: bool, inputs: int, dtype_in: torch.dtype) -> TailDesc:
            return TailDesc(
                post.C_in,
                post.K,
                inputs,
                dtype_in,
                slope=slope_of(activation),
                bias=post.bias,
                end=self.vocoder.end,
                scale=scale.scale,
                extra=scale.extra,
                snake=snake,
            )

        tail = desc(snake, len(reads), STREAM)
        if snake and build.choose.find("tail", tail)[0] is None:
            one = AliasFreeDesc(
                post.C_in, 1, STREAM, build.dtype, scale.scale, scale.extra, mean=len(reads)
            )
            y = build.samples("tail.snake", post.C_in, build.dtype, scale)
            writes: dict[str, Names] = {"outputs": (y,)}
            build.launch(
                "alias_free", "tail.snake", one, (activation,), {"inputs": reads}, writes, scale
            )
            reads, tail = (y,), desc(False, 1, build.dtype)
        out = build.buffer(OUTPUT, ("B", "T"), build.dtype, scale)
        layers = (activation, post)
        build.launch("tail", "tail", tail, layers, {"inputs": reads}, {"out": out}, scale)
        build.copy("copy_out", (OUTPUT,), ())
