"""Launches of the CUDA C++ kernels at the layers of real vocoders, as the emulator takes them."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

sys.path[:0] = [str(Path(__file__).resolve().parents[1] / folder) for folder in (".", "tests/cuda")]

from emulation import SOURCES, fingerprint, pointer  # noqa: E402
from references import snake_weights  # noqa: E402

K = (11, 7, 3)
DILATIONS = (1, 3, 5)
HALF = torch.float16


@dataclass(frozen=True)
class Step:
    """A part of a vocoder; ``rate``: its (input's) samples per second of audio."""

    kind: str
    model: str
    C: int
    rate: int
    snake: bool = False
    stride: int = 1

    def __str__(self) -> str:
        return f"{self.model} {self.kind} C={self.C}"


STEPS = (
    Step("up", "v4", 256, 1000, stride=6),
    Step("up", "v4", 128, 6000, stride=2),
    Step("up", "v4", 32, 24000, stride=2),
    Step("conv", "v4", 256, 1000),
    Step("conv", "v4", 128, 6000),
    Step("mean", "v4", 256, 1000),
    Step("mean", "v4", 128, 6000),
    Step("units", "v4", 64, 12000),
    Step("units", "v4", 32, 24000),
    Step("units", "v4", 16, 48000),
    Step("branches", "v4", 32, 24000),
    Step("branches", "v4", 16, 48000),
    Step("tail", "v4", 16, 48000),
    Step("units", "v2ProPlus", 24, 32000),
    Step("branches", "v2ProPlus", 24, 32000),
    Step("up", "v3", 768, 375, stride=4),
    Step("up", "v3", 192, 3000, stride=2),
    Step("conv", "v3", 768, 375),
    Step("conv", "v3", 384, 1500),
    Step("conv", "v3", 192, 3000),
    Step("snake", "v3", 768, 375),
    Step("snake", "v3", 384, 1500),
    Step("snake", "v3", 192, 3000),
    Step("units", "v3", 96, 6000, snake=True),
    Step("units", "v3", 48, 12000, snake=True),
    Step("units", "v3", 24, 24000, snake=True),
    Step("tail", "v3", 24, 24000, snake=True),
)


@dataclass
class Launch:
    """``tensors`` by name; names that several launches of a step share are the same memory.
    ``flops``: what the operation needs."""

    source: str
    kernel: str
    grid: tuple[int, ...]
    threads: int
    arguments: list[Any]
    shared_bytes: int
    flops: float
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)


def instantiation(header: str, signature: str) -> str:
    return (
        f'// {fingerprint(header)}\n#include "{SOURCES / header}"\n'
        f"template __global__ void {signature};\n"
    )


def ranges_of(T: int) -> torch.Tensor:
    return torch.tensor([[0, T]], dtype=torch.int32)


def unit_launches(step: Step, T: int, kernel: Any) -> list[Launch]:
    """Three units of three branches; those of the first unit read one tensor, the others what the
    unit before wrote."""
    from residual_unit_emulated import Branch, prepare

    C, vector = step.C, torch.ones(step.C)
    streams = [[torch.zeros(1, T, C)] * len(K)]
    launches = []
    for unit, dilation in enumerate(DILATIONS):
        streams.append([torch.zeros(1, T, C) for _ in K])
        branches = [
            Branch(x, y, [torch.zeros(C, C, k)] * 2, [vector] * 2, dilation, [(vector, vector)] * 2)
            for k, x, y in zip(K, *streams[-2:])
        ]
        prepared = prepare(kernel, branches, ranges_of(T), filters=snake_weights.filters())
        places = {
            t.data_ptr(): f"stream {i}.{j}" for i, s in enumerate(streams) for j, t in enumerate(s)
        }
        tensors = {
            places.get(t.data_ptr(), f"unit {unit} weights {i}"): t
            for i, t in enumerate(prepared.buffers)
        }
        launches.append(
            Launch(
                instantiation(
                    "residual_unit_kernel.cuh",
                    f"vk::cuda::{kernel.name}(const __grid_constant__ vk::cuda::UnitParams)",
                ),
                "residual_unit_kernel",
                (prepared.grid,),
                kernel.threads,
                [prepared.params],
                prepared.shared_bytes,
                2.0 * 2 * sum(K) * C * C * T,
                tensors,
            )
        )
    return launches


def branch_launches(step: Step, T: int, kernel: Any) -> list[Launch]:
    """Three branches of three units, all from one tensor."""
    from residual_branch_emulated import Branch, prepare

    C, vector, x = step.C, torch.ones(step.C), torch.zeros(1, T, step.C)
    branches = [
        Branch(
            x,
            torch.zeros(1, T, C),
            [[torch.zeros(C, C, k)] * 2] * len(DILATIONS),
            [[vector] * 2] * len(DILATIONS),
            DILATIONS,
        )
        for k in K
    ]
    prepared = prepare(kernel, branches, ranges_of(T))
    flops = 2.0 * 2 * len(DILATIONS) * sum(K) * C * C * T
    return [branch_launch(prepared, flops)]


def branch_launch(prepared: Any, flops: float) -> Launch:
    signature = f"vk::cuda::{prepared.kernel.name}(const __grid_constant__ vk::cuda::BranchParams)"
    return Launch(
        instantiation("residual_branch_kernel.cuh", signature),
        "residual_branch_kernel",
        (prepared.grid,),
        prepared.kernel.threads,
        [prepared.params],
        prepared.shared_bytes,
        flops,
        {str(i): tensor for i, tensor in enumerate(prepared.buffers)},
    )


def conv_launches(
    step: Step, T: int, shape: tuple[int, int, int, int], dilation: int = 3
) -> list[Launch]:
    """One convolution of the three branches: activated input, residual, stream, activated output.
    ``shape``: template arguments of ConvShape. Of the kind "mean": activated residuals, one
    activated output."""
    from conv_emulated import Params

    from vocoder_kernels.ops.cuda_conv import pack_fragments

    C, (rows, columns, _, _), mean = step.C, shape, step.kind == "mean"
    tensors = {"ranges": ranges_of(T)}
    params = Params(
        slope_out=0.1, scale_in=1, scale_out=1, T_in_cap=T, T_out_cap=T, C_in=C, C_out=C, stride=1,
        ranges=pointer(tensors["ranges"]), inputs=len(K), undo=10.0 if mean else 0.0,
    )  # fmt: skip
    for j, (branch, k) in enumerate(zip(params.branches, K)):
        own = {
            "x": torch.zeros(1, T, C, dtype=HALF),
            "weight": pack_fragments(torch.zeros(k, C, C), HALF),
            "bias": torch.zeros(C),
            "residual": torch.zeros(1, T, C, dtype=HALF if mean else torch.float32),
        }
        if not mean:
            own["stream"] = torch.zeros(1, T, C)
        if not mean or j == 0:
            own["activated"] = torch.zeros(1, T, C, dtype=HALF)
        for name, tensor in own.items():
            setattr(branch, name, pointer(tensor))
            tensors[f"{name} {j}"] = tensor
        branch.K, branch.dilation, branch.first_tap = k, dilation, -dilation * (k // 2)
    arguments = ", ".join(map(str, shape))
    source = instantiation(
        "conv_kernel.cuh",
        f"vk::cuda::conv_kernel<vk::cuda::ConvShape<__half, {arguments}>, "
        f"vk::cuda::ActivatedSource<__half>, {str(mean).lower()}>"
        "(const __grid_constant__ vk::cuda::ConvParams, int)",
    )
    grid = (-(-T // rows), -(-C // columns), 1 if mean else len(K))
    shared = 2 * 64 * (rows + (max(K) - 1) * dilation)
    flops = 2.0 * sum(K) * C * C * T
    return [Launch(source, "conv_kernel", grid, columns, [params, 1], shared, flops, tensors)]


def up_launches(step: Step, T: int, shape: tuple[int, int, int, int]) -> list[Launch]:
    """Mean of three streams to half the channels at ``stride`` times the rate: stream and, but for
    snakes, activated output. ``shape``: template arguments of ConvShape."""
    from conv_emulated import Params

    from vocoder_kernels.ops.cuda_conv import pack_fragments

    C, C_out, stride, (rows, columns, _, _) = step.C, step.C // 2, step.stride, shape
    tensors = {
        "ranges": ranges_of(T),
        "weight": pack_fragments(torch.zeros(2, C, stride * C_out), HALF),
        "bias": torch.zeros(C_out),
        "stream": torch.zeros(1, T * stride, C_out),
        "activated": torch.zeros(1, T * stride, C_out, dtype=HALF),
        **{f"x {j}": torch.zeros(1, T, C) for j in range(3)},
    }
    params = Params(
        inputs=3,
        slope_in=0.1,
        slope_out=0.1,
        ranges=pointer(tensors["ranges"]),
        scale_in=1,
        scale_out=stride,
        T_in_cap=T,
        T_out_cap=T * stride,
        C_in=C,
        C_out=C_out,
        stride=stride,
        padding=stride // 2,
    )
    branch = params.branches[0]
    branch.weight, branch.bias = pointer(tensors["weight"]), pointer(tensors["bias"])
    branch.stream = pointer(tensors["stream"])
    branch.activated = pointer(tensors["activated"] if step.model == "v4" else None)
    branch.K, branch.dilation, branch.first_tap = 2, 1, -1
    for j in range(3):
        params.means[j] = pointer(tensors[f"x {j}"])
    arguments = ", ".join(map(str, shape))
    source = instantiation(
        "conv_kernel.cuh",
        f"vk::cuda::conv_kernel<vk::cuda::ConvShape<__half, {arguments}>, "
        "vk::cuda::MeanSource<__half>, false>(const __grid_constant__ vk::cuda::ConvParams, int)",
    )
    grid = (-(-(T + 2) // rows), -(-stride * C_out // columns), 1)
    flops = 2.0 * 2 * stride * C * C_out * T
    shared = 2 * 64 * (rows + 1)
    return [Launch(source, "conv_kernel", grid, columns, [params, 1], shared, flops, tensors)]


def snake_launches(
    step: Step, T: int, rows: int, dtype_in: torch.dtype = torch.float32
) -> list[Launch]:
    """The snakes before one convolution of three branches; a thread walks ``rows`` samples."""
    from emulation import C_NAMES
    from test_alias_free import THREADS, Params

    C = step.C
    tensors = {"ranges": ranges_of(T), "filters": snake_weights.filters(), "vector": torch.ones(C)}
    params = Params(
        filters=pointer(tensors["filters"]),
        ranges=pointer(tensors["ranges"]),
        T_cap=T,
        C=C,
        scale=1,
        tile=rows,
    )
    for j, branch in enumerate(params.branches):
        x, y = torch.zeros(1, T, C, dtype=dtype_in), torch.zeros(1, T, C, dtype=HALF)
        tensors.update({f"x {j}": x, f"y {j}": y})
        branch.x, branch.y = pointer(x), pointer(y)
        branch.alpha = branch.inv_beta = pointer(tensors["vector"])
    source = instantiation(
        "alias_free_kernel.cuh",
        f"vk::cuda::alias_free_kernel<{C_NAMES[dtype_in]}, __half>(vk::cuda::AliasFreeParams)",
    )
    grid = (-(-(-(-T // rows) * C) // THREADS), len(K), 1)
    return [Launch(source, "alias_free_kernel", grid, THREADS, [params], 0, 0.0, tensors)]


def tail_launches(step: Step, T: int, threads: int, segment: int) -> list[Launch]:
    """``threads`` outputs per CTA; with a snake a thread activates ``segment`` rows."""
    from test_tail import Params, pitch_of

    C, taps, pitch = step.C, 7, pitch_of(step.C)
    tensors = {f"x {j}": torch.zeros(1, T, C) for j in range(3)}
    tensors |= {
        "ranges": ranges_of(T), "weight": torch.zeros(taps, pitch), "vector": torch.ones(C),
        "filters": snake_weights.filters(), "out": torch.zeros(1, T, dtype=HALF),
    }  # fmt: skip
    params = Params(
        weight=pointer(tensors["weight"]), alpha=pointer(tensors["vector"]),
        inv_beta=pointer(tensors["vector"]), filters=pointer(tensors["filters"]),
        out=pointer(tensors["out"]), ranges=pointer(tensors["ranges"]), out_stride=T, branches=3,
        T_cap=T, C=C, K=taps, scale=1, slope=0.01, out_dtype=1, end=1, pitch=pitch, segment=segment,
    )  # fmt: skip
    for j in range(3):
        params.x[j] = pointer(tensors[f"x {j}"])
    snake = str(step.snake).lower()
    source = instantiation(
        "tail_kernel.cuh", f"vk::cuda::tail_kernel<float, {snake}>(vk::cuda::TailParams, bool)"
    )
    rows = threads + taps - 1
    shared = 4 * pitch * (2 * rows + 12 if step.snake else rows)
    arguments = [params, not step.snake]
    flops = 2.0 * taps * C * T
    return [
        Launch(
            source,
            "tail_kernel",
            (-(-T // threads), 1, 1),
            threads,
            arguments,
            shared,
            flops,
            tensors,
        )
    ]


def branch_kernel(C: int, tile: tuple[int, ...] | None = None) -> Any:
    from residual_branch_emulated import Kernel, variants

    return Kernel(HALF, C, *tile) if tile else variants(C)[0]


def launches_of(step: Step, T: int, tile: tuple[int, ...] | None = None) -> list[Launch]:
    """The step with its large tile, or with ``tile``: the numbers of the builders above."""
    from residual_unit_emulated import Kernel, variants

    if step.kind == "units":
        kernel = (
            Kernel(HALF, step.C, step.snake, *tile) if tile else variants(step.C, step.snake)[0]
        )
        return unit_launches(step, T, kernel)
    if step.kind == "branches":
        return branch_launches(step, T, branch_kernel(step.C, tile))
    if step.kind in ("conv", "mean"):
        return conv_launches(step, T, tile or (64, 128, 4, 3))
    if step.kind == "up":
        return up_launches(step, T, tile or (64, 128, 4, 3))
    if step.kind == "snake":
        return snake_launches(step, T, *(tile or (16,)))
    return tail_launches(step, T, *(tile or ((192, 26) if step.snake else (256, 0))))
