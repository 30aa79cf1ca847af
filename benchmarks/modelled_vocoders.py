#!/usr/bin/env python3
"""Whole vocoders on GPUs that are not here: graph nodes, FLOPs, bytes and modelled time, in fp16.

    python benchmarks/modelled_vocoders.py --models v4 v2 v3 --devices A100 "RTX 4090" --detail

The launches are those that the package plans for the GPU. A few CTAs of each run on the emulator,
whose counters, scaled to the whole grid, give FLOPs, wavefronts and, by a model of the GPU, a time;
bytes are those of the buffers and weights that a launch reads or writes, each once. Nothing here
was measured on a GPU. Needs Triton, the CUDA core, nvcc and the emulator (VOCODER_KERNELS_GPUSIM).
"""

from __future__ import annotations

import argparse
import copy
import json
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / folder) for folder in (".", "tests/compile", "tests/cuda")]
F16 = torch.float16


@dataclass(frozen=True)
class Goal:
    gate: float
    goal: float
    at_most: bool = False

    def judge(self, value: float) -> str:
        def reached(limit: float) -> bool:
            return value <= limit if self.at_most else value >= limit

        if reached(self.goal):
            return f"goal {self.goal:g} reached"
        if reached(self.gate):
            return f"gate {self.gate:g} passed, goal {self.goal:g}"
        return f"GATE {self.gate:g} MISSED"


NODES = {"v2": Goal(36, 28, True), "v4": Goal(36, 28, True), "v3": Goal(70, 53, True)}
REAL_TIME = {
    ("v4", "A100"): Goal(2000, 3000),
    ("v2", "A100"): Goal(3000, 4500),
    ("v3", "A100"): Goal(700, 1000),
    ("v4", "RTX 4090"): Goal(1500, 2200),
    ("v2", "RTX 4090"): Goal(2200, 3300),
    ("v3", "RTX 4090"): Goal(500, 750),
}
FLOPS = Goal(1.5, 1.25, True)
BYTES = Goal(5, 8)
WAVEFRONTS = Goal(1.25, 1.05, True)
SHORT_US = {("v4", "A100", 30): Goal(450, 300, True)}


@dataclass(frozen=True)
class Node:
    """One launch of the graph, counted; ``needs_tensor``: its FLOPs are those of tensor cores."""

    step: Any
    config: Any
    profile: Any
    launch: Any
    issued_flops: float
    needed_flops: float
    nbytes: float

    @property
    def needs_tensor(self) -> bool:
        return self.issued_flops > 0


def place(version: str, frames: int, target: Any) -> tuple[Any, Any]:
    """The vocoder, and the plan of the window that ``frames`` frames run in."""
    from vocoder_kernels.backends.cuda.choose import Chooser
    from vocoder_kernels.backends.cuda.lower import lower
    from vocoder_kernels.backends.cuda.plan import plan
    from vocoder_kernels.backends.cuda.steps import Numerics
    from vocoder_kernels.backends.cuda.window import Limits, batches
    from vocoder_kernels.families import describe
    from vocoder_kernels.modules import build

    vocoder = describe(build(version))
    program = lower(vocoder, Numerics(F16), vocoder.cond is not None, Chooser(target))
    (window,) = batches([frames], Limits.of(None, vocoder.receptive_field))
    return vocoder, plan(program, window.frames, window.batch, target)


def weight_bytes(desc: Any) -> int:
    return desc.flops(1) // 2 * F16.itemsize if hasattr(desc, "flops") else 0


def node(model: Any, profiles: Any, program: Any, step: Any, config: Any, frames: int, arch: int):
    """A launch with the bytes of its own buffers for ``frames`` valid frames, so that what L2 keeps
    from one launch to the next is modelled."""
    work = step.desc
    profile = profiles.of(work, config, arch)
    scale = profiles.ctas(work, config, frames) / profile.ctas
    sizes = {name: b.nbytes(frames, 1) for name, b in program.buffers.items()}
    reads = {name: sizes[name] for name in step.reads if name in sizes}
    reads[f"{step.label} weights"] = weight_bytes(work.desc)
    writes = {name: sizes[name] for name in step.writes}
    profile.__dict__.setdefault("_played", {})  # the model's schedules, shared by all copies
    placed = copy.copy(profile)
    placed.reads, placed.writes = reads, writes
    issued = profile.flops() * scale
    needed = work.desc.flops(work.capacity.length(frames)) if issued else 0.0
    launch = model.Launch(placed, step.label, scale, fixed=tuple({**reads, **writes}), flops=needed)
    nbytes = sum(reads.values()) + sum(writes.values())
    return Node(step, config, profile, launch, issued, needed, nbytes)


def report(version: str, frames: int, device: str, model: Any, profiles: Any) -> dict[str, Any]:
    """Every figure of one vocoder on one GPU."""
    from eager_traffic import eager_traffic

    from vocoder_kernels.modules import SAMPLE_RATE_HZ
    from vocoder_kernels.ops.support import Target

    gpu = model.device(device)
    target = Target("cuda", gpu.arch, gpu.sms, gpu.smem_cta)
    vocoder, plan = place(version, frames, target)
    nodes = [
        node(model, profiles, plan.program, step, config, frames, gpu.arch)
        for step, config in zip(plan.program.steps, plan.configs)
        if step.desc is not None
    ]
    sequence = model.sequence([n.launch for n in nodes], device, mode="graph")
    eager = eager_traffic(version, vocoder, frames, F16)
    audio_s = vocoder.length(frames) / SAMPLE_RATE_HZ[version]
    needed = sum(n.needed_flops for n in nodes)
    return {
        "model": version,
        "device": device,
        "frames": frames,
        "window_frames": plan.frames,
        "audio_s": audio_s,
        "graph_nodes": len(nodes),
        "eager_operators": eager.operators,
        "modelled_us": sequence.us,
        "real_time_factor": audio_s / (sequence.us * 1e-6),
        "tensor_floor_us": sequence.flops_floor_us,
        "flops_issued_to_needed": sum(n.issued_flops for n in nodes) / needed,
        "bytes": sum(n.nbytes for n in nodes),
        "eager_bytes": eager.nbytes,
        "modelled_dram_bytes": sum(row.dram_bytes for row in sequence.rows),
        "launches": [launch_row(n, e) for n, e in zip(nodes, sequence.rows)],
    }


def launch_row(n: Node, e: Any) -> dict[str, Any]:
    from modelling import shared_memory

    row = {
        "label": n.step.label,
        "op": n.step.op,
        "by": n.step.desc.choice.name,
        "us": e.us,
        "node_us": e.launch_us,
        "tensor_floor_us": e.flops_floor_us,
        "bound": e.bound,
        "next": e.next,
        "issued_to_needed": n.issued_flops / n.needed_flops if n.needs_tensor else None,
        "bytes": n.nbytes,
        "dram_bytes": e.dram_bytes,
        "ctas": e.info["ctas"],
        "ctas_per_sm": e.info["occupancy"],
        "waves": e.info["waves"],
        "registers": e.info["registers"],
        "spills": e.info["spills"],
        "config": str(tuple(vars(n.config).values())),
    }
    if row["by"] == "cuda":
        row["shared_to_ideal"] = shared_memory(n.profile)
    return row


def show(r: dict[str, Any]) -> None:
    rtf = r["real_time_factor"]
    key = r["model"], r["device"]
    short = SHORT_US.get((*key, r["frames"]))
    goal = None if r["frames"] < 100 else REAL_TIME.get(key)
    print(f"\n{r['model']} on {r['device']}, {r['frames']} frames ({r['audio_s']:.2f} s), fp16")
    print(
        f"  graph nodes              {r['graph_nodes']} (eager {r['eager_operators']})  "
        f"{NODES[r['model']].judge(r['graph_nodes'])}"
    )
    verdict = short.judge(r["modelled_us"]) if short else ""
    print(
        f"  modelled time            {r['modelled_us']:.0f} us, tensor floor "
        f"{r['tensor_floor_us']:.0f} us  {verdict}"
    )
    print(f"  modelled real-time       {rtf:.0f}x  {goal.judge(rtf) if goal else ''}")
    flops = r["flops_issued_to_needed"]
    print(f"  tensor FLOPs / needed    {flops:.3f}  {FLOPS.judge(flops)}")
    eager, dram = r["eager_bytes"], r["modelled_dram_bytes"]
    judged = dram and r["frames"] >= 100  # shorter ones are mostly weights, which both read
    ratio = f"1/{eager / dram:.2f} of eager's  {BYTES.judge(eager / dram)}" if judged else ""
    print(
        f"  bytes of launches        {r['bytes'] / 1e6:.1f} MB, eager {eager / 1e6:.1f} MB, "
        f"1/{eager / r['bytes']:.2f}"
    )
    print(f"  of these DRAM, modelled  {dram / 1e6:.1f} MB, the rest from L2  {ratio}")
    ratios = [x["shared_to_ideal"] for x in r["launches"] if "shared_to_ideal" in x]
    if ratios:
        worst = max(x["all"] for x in ratios)
        ldmatrix = max(x["ldmatrix"] for x in ratios)
        print(
            f"  shared memory / ideal    {worst:.3f}, ldmatrix {ldmatrix:.3f}  "
            f"{WAVEFRONTS.judge(worst)}"
        )


def show_detail(r: dict[str, Any]) -> None:
    print(
        "  launch                    by         us  floor   bound/next               flops shared "
        "CTAs(per SM) regs  MB  config"
    )
    for x in r["launches"]:
        issued = f"{x['issued_to_needed']:.2f}" if x["issued_to_needed"] else "-"
        shared = f"{x['shared_to_ideal']['all']:.2f}" if "shared_to_ideal" in x else "-"
        print(
            f"  {x['label']:<24} {x['by']:<6} {x['us']:7.1f} {x['tensor_floor_us']:7.1f} "
            f"{x['bound'] + ', ' + x['next']:<24} {issued:>5} {shared:>5} {x['ctas']:>6} "
            f"({x['ctas_per_sm']}) {x['registers']:>4} {x['bytes'] / 1e6:6.1f} {x['config']}"
        )
    parts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0, 0])
    for x in r["launches"]:
        stage = x["label"].split(".")[0]
        for name in (f"{stage} {x['op']}", f"all {x['op']}"):
            part = parts[name]
            part[0] += x["us"]
            part[1] += x["tensor_floor_us"]
            part[2] += 1
    nodes_us = sum(x["node_us"] for x in r["launches"])
    print(f"  {'where time goes':<30} {'us':>8} {'floor':>8} launches")
    for name, (us, floor, count) in parts.items():
        print(f"  {name:<30} {us:8.1f} {floor:8.1f} {count}")
    print(f"  {'between nodes':<30} {nodes_us:8.1f}", flush=True)


def frames_of(version: str, seconds: float) -> int:
    from vocoder_kernels.modules import PRESETS, SAMPLE_RATE_HZ

    hop = 1
    for rate in PRESETS[version]["upsample_rates"]:
        hop *= rate
    return round(seconds * SAMPLE_RATE_HZ[version] / hop)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["v4", "v2", "v3"])
    parser.add_argument("--devices", nargs="+", default=["A100", "RTX 4090"])
    parser.add_argument("--seconds", type=float, default=5.0, help="of audio")
    parser.add_argument("--frames", type=int, help="instead of --seconds")
    parser.add_argument("--detail", action="store_true", help="every launch and where time goes")
    parser.add_argument("--json", type=Path, help="append one line per model and device")
    parser.add_argument("--cache", type=Path, help="folder to keep emulated counters in")
    args = parser.parse_args()
    from modelled_triton import find_model

    model = find_model()
    from modelling import Profiles
    from schedule import correct_schedules

    from vocoder_kernels import native

    if not native.has_cuda():
        sys.exit("vocoder_kernels has no CUDA core here: install it with nvcc on PATH")
    correct_schedules(model)
    profiles = Profiles(model, args.cache)
    print("counted on an emulator and modelled; nothing was measured on a GPU")
    for version in args.models:
        frames = args.frames or frames_of(version, args.seconds)
        for device in args.devices:
            result = report(version, frames, model.device(device).name, model, profiles)
            show(result)
            if args.detail:
                show_detail(result)
            if args.json:
                with args.json.open("a") as file:
                    file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
