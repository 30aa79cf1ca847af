"""A described vocoder as one native sequence, every tensor in a slot of its own."""

from __future__ import annotations

import torch
from native.native_ops import Pool, pointer

from vocoder_kernels import native
from vocoder_kernels.native import NO_SLOT
from vocoder_kernels.program import Vocoder


class Lowered:
    def __init__(self, isa: str, vocoder: Vocoder, weights: dict, chunk_rows=0, algorithm=0):
        self.isa, self.vocoder, self.weights = isa, vocoder, weights
        self.chunk_rows, self.algorithm = chunk_rows, algorithm
        self.sequence = native.sequence(isa)
        self.slots: list[tuple[int, int]] = []  # channels, index of the time scale
        slot = self._head()
        for i in range(len(vocoder.stages)):
            slot = self._stage(i, slot)
        self._end(slot)

    def _pointer(self, name: str) -> int:
        tensor = self.weights.get(name)
        if tensor is not None:
            self.weights[name] = tensor = tensor.float().contiguous()
        return pointer(tensor)

    def _conv(self, layer) -> dict:
        w, bias = self._pointer(f"{layer.name}.weight"), self._pointer(f"{layer.name}.bias")
        return dict(w=w, bias=bias)

    def _slot(self, channels: int, scale: int) -> int:
        self.slots.append((channels, scale))
        return len(self.slots) - 1

    def _outputs(self, activation, slot: int) -> dict:
        """Where a layer writes so that the next one finds its input activated."""
        if activation.kind == "leaky_relu":
            return dict(raw=NO_SLOT, act=slot)
        return dict(raw=slot, act=NO_SLOT)

    def _head(self) -> int:
        head, activation = self.vocoder.head, self.vocoder.stages[0].activation
        slot = self._slot(head.C_out, 0)
        self.sequence.add_head(
            **self._outputs(activation, slot),
            slope=activation.slope,
            C_in=head.C_in,
            C_out=head.C_out,
            K=head.K,
            dilation=head.dilation,
            **self._conv(head),
        )
        return slot

    def _stage(self, i: int, x: int) -> int:
        stage = self.vocoder.stages[i]
        up, C = stage.up, stage.channels
        first = stage.branches[0][0].activations[0]
        raw = self._slot(C, i + 1)
        act = self._slot(C, i + 1) if first.kind == "leaky_relu" else NO_SLOT
        self.sequence.add_upsample(
            x=x,
            raw=raw,
            act=act,
            slope=first.slope,
            C_in=up.C_in,
            C_out=C,
            K=up.K,
            stride=up.stride,
            padding=up.padding,
            **self._conv(up),
        )
        last = i + 1 == len(self.vocoder.stages)
        after = self.vocoder.activation_post if last else self.vocoder.stages[i + 1].activation
        out = self._slot(C, i + 1)
        outputs = self._outputs(after, out)
        self.sequence.add_stage(
            x=raw,
            x_act=act,
            **outputs,
            next_slope=after.slope,
            C=C,
            slope=first.slope,
            branches=[[self._unit(unit) for unit in branch] for branch in stage.branches],
            up=self._pointer("filter.up"),
            down=self._pointer("filter.down"),
            algorithm=self.algorithm,
            chunk_rows=self.chunk_rows,
        )
        return out

    def _unit(self, unit) -> list[tuple]:
        return [
            (
                conv.K,
                conv.dilation,
                *self._conv(conv).values(),
                self._pointer(f"{activation.name}.alpha") if activation.kind == "snake" else 0,
                self._pointer(f"{activation.name}.inv_beta") if activation.kind == "snake" else 0,
            )
            for activation, conv in zip(unit.activations, unit.convs)
        ]

    def _end(self, x: int) -> None:
        vocoder = self.vocoder
        post, activation = vocoder.conv_post, vocoder.activation_post
        if activation.kind == "snake":
            y = self._slot(post.C_in, len(vocoder.stages))
            self.sequence.add_snake(
                x=x,
                y=y,
                C=post.C_in,
                alpha=self._pointer(f"{activation.name}.alpha"),
                inv_beta=self._pointer(f"{activation.name}.inv_beta"),
                up=self._pointer("filter.up"),
                down=self._pointer("filter.down"),
            )
            x = y
        bias = self.weights.get(f"{post.name}.bias")
        self.sequence.add_tail(
            x=x,
            C=post.C_in,
            K=post.K,
            w=self._pointer(f"{post.name}.weight"),
            bias=0.0 if bias is None else float(bias),
            clamp=vocoder.end == "clamp",
        )

    def cond(self, g: torch.Tensor) -> torch.Tensor:
        """``g: [gin]`` to the head's addend."""
        name = self.vocoder.cond.name
        weight = self.weights[f"{name}.weight"].float()[:, :, 0]
        return weight @ g + self.weights[f"{name}.bias"].float()

    def __call__(self, x: torch.Tensor, g: torch.Tensor | None = None, threads=1, timed=False):
        """``x: [C_in, T]``, ``g: [gin]`` to ``[length(T)]``."""
        T = x.shape[1]
        scales = self.vocoder.scales
        pool = Pool(self.isa, [(C, scales[i].length(T)) for C, i in self.slots])
        out = torch.full((self.vocoder.length(T),), float("nan"))
        assert self.sequence.out_length(T) == out.numel()
        cond = None if g is None else self.cond(g)
        pool.run(self.sequence, T, x=x, cond=cond, out=out, threads=threads, timed=timed)
        pool.check_guards()
        return out
