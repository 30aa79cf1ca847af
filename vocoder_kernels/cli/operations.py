"""``vocoder-kernels bench --operations``: single layers of the CPU core against PyTorch's."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Callable

import torch
from torch.nn import functional as F

from .. import native
from ..families import describe
from ..modules import SAMPLE_RATE_HZ, build
from ..modules.bigvgan import Activation1d, SnakeBeta
from ..program import Conv1d, ConvTranspose1d
from . import FAILED_CHECK, OK
from .measure import interleaved
from .output import error, json_line, note, table

SLOPE = 0.1
BY_COST = 0
ERROR_FACTOR, FLOOR = 2.0, 2e-6
"""Per layer: at most twice PyTorch's error, or this part of the largest output."""


@dataclass(frozen=True)
class OperationRow:
    """Error relative to the largest output; a speed-up only if ``ok``."""

    operation: str
    T: int
    torch_s: float
    ours_s: float
    gflops: float
    torch_error: float
    our_error: float

    @property
    def ok(self) -> bool:
        return self.our_error <= max(ERROR_FACTOR * self.torch_error, FLOOR)


class Layer:
    """One native step over blocked tensors that are filled once; `output` reads them back."""

    def __init__(self, slots: list[tuple[int, int]], add: Callable, threads: int):
        """slots: (channels, rows); the first is the input, the last the output."""
        self.isa = native.best_isa()
        self.V = native.width(self.isa)
        self.slots, self.threads = slots, threads
        self.sequence = native.sequence(self.isa)
        add(self.sequence)
        self.sizes = [-(-channels // self.V) * rows * self.V for channels, rows in slots]
        starts = [sum(self.sizes[:i]) for i in range(len(slots))]
        self.starts = starts
        self.pool = torch.zeros(sum(self.sizes))

    def fill(self, x: torch.Tensor) -> None:
        """``x: [C, T]``."""
        channels, rows = self.slots[0]
        padded = torch.zeros(self.sizes[0] // rows, rows)
        padded[:channels] = x
        blocked = padded.view(-1, self.V, rows).transpose(1, 2).reshape(-1)
        self.pool[: self.sizes[0]] = blocked

    def run(self) -> None:
        self.sequence.run(
            x=0,
            stride_c=0,
            stride_t=0,
            T=self.slots[0][1],
            cond=0,
            cond_size=0,
            pool=self.pool.data_ptr(),
            pool_bytes=4 * self.pool.numel(),
            offsets_bytes=[4 * start for start in self.starts],
            t_strides=[rows for _, rows in self.slots],
            out=0,
            out_size=0,
            threads=self.threads,
            timed=False,
        )

    def output(self) -> torch.Tensor:
        """``[C, T]``."""
        channels, rows = self.slots[-1]
        flat = self.pool[self.starts[-1] : self.starts[-1] + self.sizes[-1]]
        return flat.view(-1, rows, self.V).transpose(1, 2).reshape(-1, rows)[:channels]


def operations_table(args: argparse.Namespace, threads: int) -> int:
    """Every distinct layer of the chosen models, for ``--seconds`` of audio."""
    rows = []
    for row in _rows(args.models, args.seconds, args.repeats, threads):
        rows.append(row)
        if args.json:
            json_line({**asdict(row), "ratio": row.torch_s / row.ours_s, "ok": row.ok})
        else:
            note(f"  measured {row.operation}")
    if not args.json:
        heads = ("operation", "T", "PyTorch", "ours", "ratio", "GFLOP/s", "error", "PyTorch's")
        print(table(heads, [_cells(row) for row in rows]))
        print(
            "\nGFLOP/s counts a direct convolution's multiplications and additions, so a transform "
            "that saves some can exceed the processor's peak.\n"
            "Errors: largest, against float64, relative to the largest output."
        )
    return OK if all(row.ok for row in rows) else FAILED_CHECK


def _cells(row: OperationRow) -> tuple[str, ...]:
    ratio = f"{row.torch_s / row.ours_s:.2f}x" if row.ok else "-"
    times = (f"{1e3 * seconds:.2f} ms" for seconds in (row.torch_s, row.ours_s))
    rate = f"{row.gflops:.0f}" if row.gflops else ""
    errors = (error(row.our_error), error(row.torch_error))
    return (row.operation, str(row.T), *times, ratio, rate, *errors)


def _rows(models: list[str], seconds: float, repeats: int, threads: int) -> Iterator[OperationRow]:
    done = set()
    for version in models:
        vocoder = describe(build(version))
        frames = max(1, round(seconds * SAMPLE_RATE_HZ[version] / vocoder.hop_length))
        for before, after, stage in zip(vocoder.scales, vocoder.scales[1:], vocoder.stages):
            layers: list[tuple[tuple, Callable[..., OperationRow], Any, int]] = []
            up, T = stage.up, after.length(frames)
            key: tuple = ("up", up.C_in, up.C_out, up.K, up.stride)
            layers.append((key, _upsample, up, before.length(frames)))
            if stage.branches[0][0].activations[0].kind == "snake":
                layers.append((("snake", stage.channels), _snake, stage.channels, T))
            for conv in stage.convs:
                layers.append((("conv", conv.C_in, conv.K, conv.dilation), _conv, conv, T))
            for key, measure, layer, length in layers:
                if key not in done:
                    done.add(key)
                    yield measure(layer, length, repeats, threads)


def _measure(name, layer, eager, exact, x, flops, repeats) -> OperationRow:
    layer.fill(x)
    layer.run()
    reference = exact()
    scale = reference.abs().max().item()
    errors = [
        (got.double() - reference).abs().max().item() / scale for got in (eager(), layer.output())
    ]
    medians = interleaved({"torch": eager, "ours": layer.run}, repeats)
    gflops = flops / medians["ours"] / 1e9
    return OperationRow(name, x.shape[1], medians["torch"], medians["ours"], gflops, *errors)


def _conv(conv: Conv1d, T: int, repeats: int, threads: int) -> OperationRow:
    w, bias, x = _random(conv.C_out, conv.C_in, conv.K), _random(conv.C_out), _random(conv.C_in, T)
    w /= (conv.C_in * conv.K) ** 0.5
    settings = {"padding": conv.halo, "dilation": conv.dilation}

    def add(sequence: native.NativeSequence) -> None:
        sequence.add_conv(
            x=0,
            residual=-1,
            addend=-1,
            scale=1.0,
            raw=1,
            act=-1,
            slope=SLOPE,
            C_in=conv.C_in,
            C_out=conv.C_out,
            K=conv.K,
            dilation=conv.dilation,
            w=w.data_ptr(),
            bias=bias.data_ptr(),
            algorithm=BY_COST,
        )

    return _measure(
        f"conv {conv.C_in}, kernel {conv.K}, dilation {conv.dilation}",
        Layer([(conv.C_in, T), (conv.C_out, T)], add, threads),
        lambda: F.conv1d(x[None], w, bias, **settings)[0],
        lambda: F.conv1d(x[None].double(), w.double(), bias.double(), **settings)[0],
        x,
        conv.flops(T),
        repeats,
    )


def _upsample(up: ConvTranspose1d, T: int, repeats: int, threads: int) -> OperationRow:
    w, bias, x = _random(up.C_in, up.C_out, up.K), _random(up.C_out), _random(up.C_in, T)
    w /= (up.C_in * max(1.0, up.K / up.stride)) ** 0.5
    settings = {"stride": up.stride, "padding": up.padding}

    def add(sequence: native.NativeSequence) -> None:
        sequence.add_upsample(
            x=0,
            raw=1,
            act=-1,
            slope=SLOPE,
            C_in=up.C_in,
            C_out=up.C_out,
            K=up.K,
            stride=up.stride,
            padding=up.padding,
            w=w.data_ptr(),
            bias=bias.data_ptr(),
        )

    return _measure(
        f"upsample {up.C_in} to {up.C_out}, stride {up.stride}, kernel {up.K}",
        Layer([(up.C_in, T), (up.C_out, up.length(T))], add, threads),
        lambda: F.conv_transpose1d(x[None], w, bias, **settings)[0],
        lambda: F.conv_transpose1d(x[None].double(), w.double(), bias.double(), **settings)[0],
        x,
        up.flops(T),
        repeats,
    )


def _snake(C: int, T: int, repeats: int, threads: int) -> OperationRow:
    activation = SnakeBeta(C, alpha_logscale=True)
    with torch.no_grad():
        for parameter in activation.parameters():
            parameter.add_(0.3 * _random(*parameter.shape))
    module = Activation1d(activation)
    exact = copy.deepcopy(module).double()
    alpha = activation.alpha.detach().exp()
    inv_beta = 1 / (activation.beta.detach().exp() + 1e-9)
    filters = dict(module.named_buffers())
    up, down = filters["upsample.filter"], filters["downsample.lowpass.filter"]
    x = _random(C, T)

    def add(sequence: native.NativeSequence) -> None:
        pointers = {"alpha": alpha, "inv_beta": inv_beta, "up": up, "down": down}
        sequence.add_snake(x=0, y=1, C=C, **{n: t.data_ptr() for n, t in pointers.items()})

    with torch.inference_mode():
        return _measure(
            f"anti-aliased snake {C}",
            Layer([(C, T), (C, T)], add, threads),
            lambda: module(x[None])[0].detach(),
            lambda: exact(x[None].double())[0].detach(),
            x,
            0,
            repeats,
        )


def _random(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2))
