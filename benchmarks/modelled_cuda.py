#!/usr/bin/env python3
"""Modelled time of the CUDA C++ kernels on GPUs that are not there, from emulated counters.

    python benchmarks/modelled_cuda.py --steps v4 v3:units --devices A100 "RTX 4090"

Nothing here was measured on a GPU. Needs nvcc and the emulator (VOCODER_KERNELS_GPUSIM).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DEVICES = ("A100", "RTX 4090", "RTX 3060")
SHARED = ("shared_load", "shared_store", "ldmatrix", "cp_async_shared")


def load_model() -> Any:
    """The emulator's model of times, or exit with where it was sought."""
    folder = Path(os.environ.get("VOCODER_KERNELS_GPUSIM", ""))
    if not (folder / "__init__.py").is_file():
        sys.exit(
            f"no GPU emulator at {folder.absolute()}: set VOCODER_KERNELS_GPUSIM to its folder"
        )
    sys.path.append(str(folder.parent))
    from gpusim import model

    return model


def profile(model: Any, launch: Any, arch: int, sample: int) -> Any:
    """Counters of one launch, from ``sample`` CTAs of its grid."""
    import gpusim.core as emulator
    from emulation import SOURCES

    bytes_of = {name: t.numel() * t.element_size() for name, t in launch.tensors.items()}
    handles = [
        emulator.register(t.data_ptr(), bytes_of[name], name) for name, t in launch.tensors.items()
    ]
    try:
        result = model.cuda_profile(
            launch.source,
            launch.kernel,
            launch.grid,
            (launch.threads,),
            launch.arguments,
            shared=launch.shared_bytes,
            arch=arch,
            sample=sample,
            flags=["-std=c++17", "-I", str(SOURCES)],
        )
    finally:
        for handle in handles:
            emulator.unregister(handle)
    for side in (result.reads, result.writes):  # a sample touches a part of each tensor
        side.update({name: bytes_of[name] for name in side if name in bytes_of})
    return result


def shared_ratio(profiles: list[Any]) -> float:
    """Wavefronts of all shared-memory accesses against the ideal, of the worst launch."""
    worst = 1.0
    for p in profiles:
        kinds = [p.stats[k] for k in SHARED if k in p.stats]
        ideal = sum(k["ideal_wavefronts"] for k in kinds)
        if ideal:
            worst = max(worst, sum(k["wavefronts"] for k in kinds) / ideal)
    return worst


def model_step(
    model: Any, step: Any, launches: list[Any], devices: list[str], sample: int
) -> list[dict[str, Any]]:
    """The step on every device: microseconds without launch costs, floor, bound, counters."""
    rows = []
    profiles: dict[int, list[Any]] = {}
    needed = sum(launch.flops for launch in launches)
    for name in devices:
        arch = 75 if model.device(name).arch < 80 else 80
        if arch not in profiles:
            profiles[arch] = [profile(model, launch, arch, sample) for launch in launches]
        nodes = [model.Launch(p, flops=x.flops) for p, x in zip(profiles[arch], launches)]
        estimates = model.sequence(nodes, name, mode="graph").rows
        issued = sum(p.flops() for p in profiles[arch])
        rows.append(
            {
                "step": str(step),
                "device": name,
                "us": sum(e.us for e in estimates),
                "tensor_floor_us": sum(e.flops_floor_us for e in estimates),
                "issued_to_needed": issued / needed if issued else None,
                "shared_to_ideal": shared_ratio(profiles[arch]),
                "registers": estimates[0].info["registers"],
                "ctas_per_sm": estimates[0].info["occupancy"],
                "bound": sorted({f"{e.bound}, then {e.next}" for e in estimates}),
            }
        )
    return rows


def show(row: dict[str, Any]) -> None:
    flops = f"x{row['issued_to_needed']:.2f}" if row["issued_to_needed"] else "-"
    print(
        f"{row['step']:15} {row['device']:12} {row['us']:7.1f} us, tensor floor "
        f"{row['tensor_floor_us']:6.1f} us, FLOPs {flops:5}, shared x{row['shared_to_ideal']:.2f}, "
        f"{row['registers']:3} registers, {row['ctas_per_sm']} CTAs per SM, {row['bound'][0]}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=5.0, help="of audio")
    parser.add_argument("--devices", nargs="+", default=list(DEVICES))
    parser.add_argument(
        "--steps", nargs="+", default=["v4", "v3"], help="e.g. v4, v3:units, v4:units:64"
    )
    parser.add_argument("--tile", help="numbers of another tile, e.g. 6,1,3,2 of a residual unit")
    parser.add_argument("--sample", type=int, default=6, help="CTAs emulated per launch")
    parser.add_argument("--json", type=Path, help="rows as JSON lines")
    args = parser.parse_args()
    model = load_model()
    from schedule import correct_schedules

    correct_schedules(model)
    from modelled_launches import STEPS, launches_of

    tile = tuple(map(int, args.tile.split(","))) if args.tile else None
    rows = []
    for step in STEPS:
        names = (step.model, f"{step.model}:{step.kind}", f"{step.model}:{step.kind}:{step.C}")
        if set(names) & set(args.steps):
            launches = launches_of(step, int(step.rate * args.seconds), tile)
            for row in model_step(model, step, launches, args.devices, args.sample):
                show(row)
                rows.append(row)
    if args.json:
        args.json.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
