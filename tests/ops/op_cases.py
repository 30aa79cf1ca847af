"""Runs one GPU operation on random data with NaN outside the valid samples and compares it with
its float64 reference; where (Triton's interpreter, the emulator, a GPU) is the caller's affair."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable

import torch

from vocoder_kernels.ops.alias_free import AliasFreeDesc, pack_filters
from vocoder_kernels.ops.head import HeadDesc
from vocoder_kernels.ops.reference import on_valid_rows
from vocoder_kernels.ops.registry import operation
from vocoder_kernels.ops.residual_conv import ResidualConvDesc
from vocoder_kernels.ops.support import Target
from vocoder_kernels.ops.tail import TailDesc
from vocoder_kernels.ops.upsample import UpsampleDesc

UNTOUCHED = 768.0
A100 = Target("cuda", 80, 108, 166912)
TARGETS = {
    75: Target("cuda", 75, 40, 65536),
    80: A100,
    86: Target("cuda", 86, 28, 101376),
    89: Target("cuda", 89, 128, 101376),
    90: Target("cuda", 90, 132, 232448),
}
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
UNIT_ROUNDOFF = {
    torch.float16: 2.0**-11,
    torch.bfloat16: 2.0 ** (-7 if INTERPRETED else -8),
    torch.float32: 2.0**-24,
}
TF32_TRUNCATION = 2.0**-10


@dataclass(frozen=True)
class Case:
    """``frames``: capacity in frames; ``ranges``: valid frames per row; ``config``: None to choose
    for ``target``; ``alike``: every row holds the same samples, from where its range starts."""

    op: str
    desc: Any
    frames: int
    ranges: tuple[tuple[int, int], ...]
    config: Any = None
    seed: int = 0
    target: Target = A100
    alike: bool = False

    def __str__(self) -> str:
        d = self.desc
        shape = [
            f"{n}{getattr(d, n)}" for n in ("C", "C_in", "C_out", "K", "stride") if hasattr(d, n)
        ]
        dtype = str(getattr(d, "dtype", None) or d.dtype_in).replace("torch.", "")
        config = "" if self.config is None else str(tuple(vars(self.config).values()))
        lengths = ",".join(f"{a}-{b}" for a, b in self.ranges)
        return "-".join([self.op, *shape, dtype, lengths, config]).replace(" ", "")


@dataclass(frozen=True)
class Output:
    name: str
    got: torch.Tensor
    expected: torch.Tensor
    tolerance: float

    def rows(self) -> list[torch.Tensor]:
        """Valid samples of every row."""
        return [got[~expected.isnan()] for got, expected in zip(self.got, self.expected)]

    def check(self) -> None:
        valid = ~self.expected.isnan()
        got = self.got.double()
        assert valid.any()
        assert bool((got[~valid] == UNTOUCHED).all()), (
            f"{self.name}: wrote outside the valid samples"
        )
        error = (got - self.expected)[valid].abs()
        bound = self.tolerance + UNIT_ROUNDOFF[self.got.dtype] * self.expected[valid].abs()
        worst = (error - bound).nan_to_num(nan=math.inf).argmax()
        assert bool((error <= bound).all()), (
            f"{self.name}: error {error[worst]:.3g}, allowed {bound[worst]:.3g}, "
            f"at {valid.nonzero()[worst].tolist()} of {list(got.shape)}"
        )


class Data:
    """Random tensors of a case."""

    def __init__(self, case: Case) -> None:
        self.generator = torch.Generator().manual_seed(case.seed)
        self.ranges = torch.tensor(case.ranges, dtype=torch.int32)
        self.B = len(case.ranges)
        self.alike = case.alike

    def normal(
        self, *shape: int, std: float = 1.0, dtype: torch.dtype = torch.float32
    ) -> torch.Tensor:
        return (torch.randn(*shape, generator=self.generator) * std).to(dtype)

    def buffer(
        self, T_cap: int, C: int, dtype: torch.dtype, scale: int, extra: int
    ) -> torch.Tensor:
        x = self.rows(T_cap, C, dtype=dtype)
        if self.alike:
            starts = self.ranges[:, 0].tolist()
            x = torch.stack([row.roll(start * scale, 0) for row, start in zip(x, starts)])
        return on_valid_rows(lambda row: row, x, self.ranges, scale, extra).contiguous()

    def rows(self, *shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """One of ``shape`` for every row of the batch."""
        if self.alike:
            return self.normal(1, *shape, dtype=dtype).repeat(self.B, *(1 for _ in shape))
        return self.normal(self.B, *shape, dtype=dtype)

    def empty(self, *shape: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.full(shape, UNTOUCHED, dtype=dtype)


def _config(case: Case, T_cap: int) -> Any:
    choose = operation(case.op).choose_config
    return case.config or choose(case.desc, len(case.ranges), T_cap, case.target)


def _tolerance(desc: Any, depth: int, expected: torch.Tensor) -> float:
    """fp32 accumulation of ``depth`` products (TF32 operands where asked) at the output's size."""
    size = expected[~expected.isnan()].abs().max().item()
    relative = 4 * UNIT_ROUNDOFF[torch.float32] * math.sqrt(depth)
    if getattr(desc, "precision", "ieee") == "tf32":
        relative += 4 * TF32_TRUNCATION / math.sqrt(depth) + TF32_TRUNCATION
    return relative * size + 1e-7


def _leaky(x: torch.Tensor, slope: float) -> torch.Tensor:
    return torch.nn.functional.leaky_relu(x, slope)


def _doubles(tensors: Sequence[torch.Tensor] | None) -> list[torch.Tensor] | None:
    return None if tensors is None else [x.double() for x in tensors]


def _double(x: torch.Tensor | None) -> torch.Tensor | None:
    return None if x is None else x.double()


def run_residual_conv(case: Case) -> list[Output]:
    from vocoder_kernels.ops.residual_conv import pack
    from vocoder_kernels.ops.residual_conv.reference import reference

    desc: ResidualConvDesc = case.desc
    data, n = Data(case), desc.branches
    T_cap = case.frames * desc.scale + max(0, desc.extra)
    shape = (data.B, T_cap, desc.C_out)
    inputs = [data.buffer(T_cap, desc.C_in, desc.dtype, desc.scale, desc.extra) for _ in range(n)]
    weights = [
        data.normal(desc.C_out, desc.C_in, k, std=(desc.C_in * k) ** -0.5, dtype=desc.dtype)
        for k in desc.K
    ]
    bias = data.normal(n, desc.C_out) if desc.bias else None
    residuals = (
        [
            data.buffer(T_cap, desc.C_out, desc.residual_dtype, desc.scale, desc.extra)
            for _ in range(n)
        ]
        if desc.residual
        else None
    )
    m = desc.outputs
    streams = [data.empty(*shape, dtype=torch.float32) for _ in range(m)] if desc.stream else None
    activated = [data.empty(*shape, dtype=desc.dtype) for _ in range(m)] if desc.activated else None
    operation(case.op).launch(
        desc, _config(case, T_cap), inputs, pack(weights, desc.dtype), bias, residuals, data.ranges,
        streams, activated,
    )  # fmt: skip
    expected = reference(
        desc, _doubles(inputs), _doubles(weights), _double(bias), _doubles(residuals), data.ranges
    )
    outputs = []
    for j, y in enumerate(expected):
        depth = sum(desc.K) if desc.mean else desc.K[j]
        tolerance = _tolerance(desc, depth * desc.C_in, y)
        if streams:
            outputs.append(Output(f"streams[{j}]", streams[j], y, tolerance))
        if activated:
            outputs.append(
                Output(f"activated[{j}]", activated[j], _leaky(y, desc.slope), tolerance)
            )
    return outputs


def run_upsample(case: Case) -> list[Output]:
    from vocoder_kernels.ops.upsample import pack
    from vocoder_kernels.ops.upsample.reference import reference

    desc: UpsampleDesc = case.desc
    data = Data(case)
    T_cap = case.frames * desc.scale + max(0, desc.extra)
    T_cap_out = case.frames * desc.scale_out + max(0, desc.extra_out)
    dtype_in = torch.float32 if desc.inputs else desc.dtype
    inputs = [
        data.buffer(T_cap, desc.C_in, dtype_in, desc.scale, desc.extra)
        for _ in range(max(1, desc.inputs))
    ]
    depth = desc.taps * desc.C_in
    weight = data.normal(desc.C_in, desc.C_out, desc.K, std=depth**-0.5, dtype=desc.dtype)
    bias = data.normal(desc.C_out) if desc.bias else None
    shape = (data.B, T_cap_out, desc.C_out)
    stream = data.empty(*shape, dtype=torch.float32) if desc.stream else None
    activated = data.empty(*shape, dtype=desc.dtype) if desc.activated else None
    operation(case.op).launch(
        desc, _config(case, T_cap), inputs, pack(weight, desc.stride, desc.dtype), bias,
        data.ranges, stream, activated,
    )  # fmt: skip
    y = reference(desc, _doubles(inputs), weight.double(), _double(bias), data.ranges, T_cap_out)
    tolerance = _tolerance(desc, depth, y)
    if desc.inputs:
        tolerance += 4 * UNIT_ROUNDOFF[desc.dtype]
    outputs = []
    if stream is not None:
        outputs.append(Output("stream", stream, y, tolerance))
    if activated is not None:
        outputs.append(Output("activated", activated, _leaky(y, desc.slope_out), tolerance))
    return outputs


def run_head(
    case: Case, caller_dtype: torch.dtype | None = None, transposed: bool = False
) -> list[Output]:
    from vocoder_kernels.ops.head import pack, pack_condition
    from vocoder_kernels.ops.head.reference import reference

    desc: HeadDesc = case.desc
    data = Data(case)
    caller_dtype = caller_dtype or desc.dtype
    T = case.frames + 9
    x = data.rows(T, desc.C_in, dtype=caller_dtype).to(desc.dtype).to(caller_dtype)
    x = x.transpose(1, 2) if transposed else x.transpose(1, 2).contiguous()
    times = [
        1 - start if case.alike else b % 3 + (-start if b % 2 else 2)
        for b, (start, _) in enumerate(case.ranges)
    ]
    source = torch.tensor([[data.B - 1 - b, t] for b, t in enumerate(times)], dtype=torch.int32)
    std = (desc.C_in * desc.K) ** -0.5
    weight = data.normal(desc.C_out, desc.C_in, desc.K, std=std, dtype=desc.dtype)
    bias = data.normal(desc.C_out) if desc.bias else None
    cond = data.rows(desc.C_out) if desc.cond else None
    cond_weight = cond_bias = packed = None
    if desc.C_cond:
        cond = data.rows(1, desc.C_cond, dtype=desc.dtype)
        std = desc.C_cond**-0.5
        cond_weight = data.normal(desc.C_out, desc.C_cond, 1, std=std, dtype=desc.dtype)
        cond_bias = data.normal(desc.C_out) if desc.bias else None
        packed = pack_condition(cond_weight, desc.dtype)
    out = data.empty(data.B, case.frames, desc.C_out, dtype=desc.dtype)
    operation(case.op).launch(
        desc, _config(case, case.frames), x, pack(weight, desc.dtype), bias, cond, source,
        data.ranges, out, packed, cond_bias,
    )  # fmt: skip
    y = reference(
        desc,
        x.double(),
        weight.double(),
        _double(bias),
        _double(cond),
        source,
        data.ranges,
        case.frames,
        _double(cond_weight),
        _double(cond_bias),
    )
    return [Output("out", out, y, _tolerance(desc, desc.K * desc.C_in + desc.C_cond, y))]


def run_alias_free(case: Case) -> list[Output]:
    from vocoder_kernels.modules.bigvgan import kaiser_sinc_filter
    from vocoder_kernels.ops.alias_free.reference import reference

    desc: AliasFreeDesc = case.desc
    data, n = Data(case), desc.tensors
    T_cap = case.frames * desc.scale + max(0, desc.extra)
    inputs = [
        data.buffer(T_cap, desc.C, desc.dtype_in, desc.scale, desc.extra)
        for _ in range(n * desc.mean)
    ]
    alpha = [(data.normal(desc.C, std=0.5)).exp() for _ in range(n)]
    inv_beta = [(data.normal(desc.C, std=0.5)).exp() for _ in range(n)]
    taps = kaiser_sinc_filter(0.25, 0.3, 12).flatten()
    filters = pack_filters(taps, taps)
    outputs = [data.empty(data.B, T_cap, desc.C, dtype=desc.dtype) for _ in range(n)]
    operation(case.op).launch(
        desc, _config(case, T_cap), inputs, alpha, inv_beta, filters, data.ranges, outputs
    )
    result = []
    for j in range(n):
        x = sum(_doubles(inputs)) / desc.mean if desc.mean > 1 else inputs[j].double()
        y = reference(
            desc, x, alpha[j].double(), inv_beta[j].double(), filters.double(), data.ranges
        )
        size = y[~y.isnan()].abs().max().item()
        result.append(Output(f"outputs[{j}]", outputs[j], y, 1e-6 * size))
    return result


def run_tail(case: Case, caller_dtype: torch.dtype = torch.float32) -> list[Output]:
    from vocoder_kernels.ops.tail import pack
    from vocoder_kernels.ops.tail.reference import reference

    desc: TailDesc = case.desc
    data = Data(case)
    T_cap = case.frames * desc.scale + max(0, desc.extra)
    inputs = [
        data.buffer(T_cap, desc.C_in, desc.dtype_in, desc.scale, desc.extra)
        for _ in range(desc.inputs)
    ]
    weight = data.normal(1, desc.C_in, desc.K, std=(desc.C_in * desc.K) ** -0.5)
    bias = data.normal(1, std=0.1) if desc.bias else None
    out = data.empty(data.B, T_cap + 5, dtype=caller_dtype)
    operation(case.op).launch(
        desc, _config(case, T_cap), inputs, pack(weight), bias, data.ranges, out[:, : T_cap + 1]
    )
    y = reference(desc, _doubles(inputs), weight.double(), _double(bias), data.ranges)
    y = torch.nn.functional.pad(y, (0, 5), value=math.nan)
    return [Output("out", out, y, 1e-6)]


RUNNERS: dict[str, Callable[..., list[Output]]] = {
    "head": run_head,
    "upsample": run_upsample,
    "residual_conv": run_residual_conv,
    "alias_free": run_alias_free,
    "tail": run_tail,
}


def run(case: Case, **options: Any) -> list[Output]:
    return RUNNERS[case.op](case, **options)


def check(case: Case, **options: Any) -> list[Output]:
    outputs = run(case, **options)
    for output in outputs:
        output.check()
    return outputs


def retiled(case: Case, config: Any) -> Case:
    return replace(case, config=config)
