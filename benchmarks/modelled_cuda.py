#!/usr/bin/env python3
"""Modelled time of the CUDA C++ kernels on GPUs that are not there, from emulated counters.

    python benchmarks/modelled_cuda.py --stages v4 v3 --devices A100 "RTX 4090" "RTX 3060"

Nothing here was measured on a GPU. Needs nvcc and the emulator (VOCODER_KERNELS_GPUSIM).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "cuda")]

K = (11, 7, 3)
DILATIONS = (1, 3, 5)
DEVICES = ("A100", "RTX 4090", "RTX 3060", "T4")


@dataclass(frozen=True)
class NarrowStage:
    """A stage whose units the fused kernel runs; ``rate``: samples per second of audio."""

    model: str
    C: int
    rate: int
    snake: bool = False


STAGES = (
    NarrowStage("v4", 64, 12000),
    NarrowStage("v4", 32, 24000),
    NarrowStage("v4", 16, 48000),
    NarrowStage("v3", 96, 6000, True),
    NarrowStage("v3", 48, 12000, True),
    NarrowStage("v3", 24, 24000, True),
)


def load_model() -> Any:
    """The emulator's model of times, or exit with where it was sought."""
    folder = Path(os.environ.get("VOCODER_KERNELS_GPUSIM", ROOT.parent / "shared" / "gpusim"))
    if not (folder / "__init__.py").is_file():
        sys.exit(f"no GPU emulator at {folder}: set VOCODER_KERNELS_GPUSIM to its folder")
    sys.path.append(str(folder.parent))
    from gpusim import model

    return model


def unit_launch(kernel: Any, T: int, unit: int) -> tuple[Any, dict[int, str]]:
    """A stage's launch number ``unit``, three branches on ``T`` samples of zeros, and its streams by
    address: the first unit's branches read one tensor, the others what the unit before wrote."""
    from references import snake_weights
    from residual_unit_emulated import Branch, prepare

    C = kernel.C
    vector, first = torch.ones(C), torch.zeros(1, T, C)
    branches, streams = [], {}
    for j, k in enumerate(K):
        x, out = first if unit == 0 else torch.zeros(1, T, C), torch.zeros(1, T, C)
        weights = [torch.zeros(C, C, k)] * 2
        snakes = [(vector, vector)] * 2
        branches.append(Branch(x, out, weights, [vector] * 2, DILATIONS[unit], snakes))
        streams[x.data_ptr()] = "input" if unit == 0 else f"unit {unit - 1} branch {j}"
        streams[out.data_ptr()] = f"unit {unit} branch {j}"
    ranges = torch.tensor([[0, T]], dtype=torch.int32)
    return prepare(kernel, branches, ranges, filters=snake_weights.filters()), streams


def unit_source(kernel: Any) -> str:
    from emulation import fingerprint

    return (
        f'// {fingerprint()}\n#include "residual_unit_kernel.cuh"\n'
        f"template __global__ void vk::cuda::{kernel.name}"
        "(const __grid_constant__ vk::cuda::UnitParams);\n"
    )


def profile_unit(model: Any, kernel: Any, T: int, unit: int, arch: int, sample: int) -> Any:
    """Counters of one launch, from ``sample`` CTAs of its grid."""
    import gpusim.core as emulator
    from emulation import SOURCES

    launch, streams = unit_launch(kernel, T, unit)
    tensors = {t.data_ptr(): t for t in launch.buffers}
    names = {at: streams.get(at, f"unit {unit} weights {i}") for i, at in enumerate(tensors)}
    sizes = {names[at]: t.numel() * t.element_size() for at, t in tensors.items()}
    handles = [emulator.register(at, sizes[name], name) for at, name in names.items()]
    try:
        profile = model.cuda_profile(
            unit_source(kernel),
            "residual_unit_kernel",
            (launch.grid,),
            (kernel.threads,),
            [launch.params],
            shared=launch.shared_bytes,
            arch=arch,
            sample=sample,
            flags=["-std=c++17", "-I", str(SOURCES)],
        )
    finally:
        for handle in handles:
            emulator.unregister(handle)
    for side in (profile.reads, profile.writes):  # a sample touches a part of each tensor
        side.update({name: sizes[name] for name in side if name in sizes})
    return profile


def needed_flops(stage: NarrowStage, T: int) -> float:
    return 2.0 * 2 * sum(K) * stage.C**2 * T


def shared_ratio(profile: Any) -> float:
    """Wavefronts of all shared-memory accesses against the ideal."""
    kinds = [profile.stats[k] for k in ("shared_load", "shared_store", "ldmatrix")]
    return sum(k["wavefronts"] for k in kinds) / sum(k["ideal_wavefronts"] for k in kinds)


def model_stage(
    model: Any, stage: NarrowStage, kernel: Any, T: int, devices: list[str], sample: int
) -> list[dict[str, Any]]:
    """The stage's three units on every device: microseconds, bound, floor, counters."""
    rows = []
    profiles: dict[int, list[Any]] = {}
    for name in devices:
        arch = 75 if model.device(name).arch < 80 else 80
        if arch not in profiles:
            profiles[arch] = [
                profile_unit(model, kernel, T, unit, arch, sample) for unit in range(len(DILATIONS))
            ]
        launches = [model.Launch(p, flops=needed_flops(stage, T)) for p in profiles[arch]]
        estimates = model.sequence(launches, name, mode="graph").rows
        issued = sum(p.flops() for p in profiles[arch])
        rows.append(
            {
                "stage": f"{stage.model} C={stage.C}",
                "tile": [kernel.warps_m, kernel.warps_n, kernel.m_tiles, kernel.ctas_per_sm],
                "device": name,
                "us": sum(e.us for e in estimates),
                "tensor_floor_us": sum(e.flops_floor_us for e in estimates),
                "registers": estimates[0].info["registers"],
                "ctas_per_sm": estimates[0].info["occupancy"],
                "bound": sorted({f"{e.bound}/{e.next}" for e in estimates}),
                "issued_to_needed": issued / (3 * needed_flops(stage, T)),
                "shared_ratio": max(shared_ratio(p) for p in profiles[arch]),
            }
        )
    return rows


def show(row: dict[str, Any]) -> None:
    print(
        f"{row['stage']:8} tile {row['tile']!s:14} {row['device']:12} {row['us']:7.0f} us  "
        f"floor {row['tensor_floor_us']:5.0f} us  {row['registers']:3} registers, "
        f"{row['ctas_per_sm']} CTAs per SM  flops x{row['issued_to_needed']:.2f}  "
        f"shared x{row['shared_ratio']:.2f}  {', '.join(row['bound'])}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--devices", nargs="+", default=list(DEVICES))
    parser.add_argument("--stages", nargs="+", default=["v4", "v3"], help="v4, v3 or e.g. v4:64")
    parser.add_argument("--variant", type=int, default=0, help="tile: 0 large, 1 small")
    parser.add_argument("--tile", help="warps_m,warps_n,m_tiles,ctas_per_sm of an own variant")
    parser.add_argument("--sample", type=int, default=6, help="CTAs emulated per launch")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    model = load_model()
    from residual_unit_emulated import Kernel, variants

    rows = []
    for stage in STAGES:
        if not {stage.model, f"{stage.model}:{stage.C}"} & set(args.stages):
            continue
        kernel = variants(stage.C, stage.snake)[args.variant]
        if args.tile:
            tile = map(int, args.tile.split(","))
            kernel = Kernel(torch.float16, stage.C, stage.snake, *tile)
        T = int(stage.rate * args.seconds)
        for row in model_stage(model, stage, kernel, T, args.devices, args.sample):
            show(row)
            rows.append(row)
    if args.json:
        args.json.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
