#!/usr/bin/env python3
r"""A whole forward counted on the emulated GPU: graph nodes, FLOPs issued, bytes moved.

    GPUSIM_STATS=counters.json $VOCODER_KERNELS_GPUSIM/device/run \
        python benchmarks/counted_forward.py --models v4 v3 --frames 30

FLOPs are those of matrix instructions, against the convolutions'. Bytes are the distinct ones each
launch reads and writes, which is the least its DRAM traffic can be; eager's are the inputs and
outputs of its operators, weight norm folded. Every kernel of the replayed graph runs in full, which
takes minutes; `modelled_vocoders.py` samples them. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def launch_counters() -> dict[str, dict[str, Any]]:
    """Sums over launches so far, per kernel."""
    from gpusim import device

    return {name: kernel["sum"] for name, kernel in device.stats()["kernels"].items()}


def matrix_flops(counters: dict[str, Any]) -> int:
    return sum(kind["flops"] for kind in counters["mma"].values())


def nbytes(counters: dict[str, Any]) -> int:
    return counters["unique_bytes_read"] + counters["unique_bytes_written"]


def count(version: str, frames: int, dtype: torch.dtype) -> dict[str, Any]:
    from eager_traffic import eager_traffic

    from vocoder_kernels import compile
    from vocoder_kernels.families import describe
    from vocoder_kernels.modules import build

    module = build(version).to("cuda", dtype)
    vocoder = describe(module)
    arguments = [torch.randn(1, vocoder.head.C_in, frames)]
    if vocoder.cond is not None:
        arguments.append(torch.randn(1, vocoder.cond.C_in, 1))
    arguments = [a.to("cuda", dtype) for a in arguments]
    engine = compile(module)
    engine.warmup(frames)
    before = launch_counters()
    engine(*arguments)
    after = launch_counters()

    def run(measure: Any) -> int:
        return sum(map(measure, after.values())) - sum(map(measure, before.values()))

    programs = engine.executable._programs
    eager = eager_traffic(version, vocoder, frames, dtype)
    return {
        "model": version,
        "frames": frames,
        "graph_nodes": len(programs["ieee", vocoder.cond is not None].launches),
        "eager_operators": eager.operators,
        "flops_issued": run(matrix_flops),
        "flops_needed": vocoder.flops(frames),
        "bytes": run(nbytes),
        "eager_bytes": eager.nbytes,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["v2", "v4", "v3"])
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--json", action="store_true", help="one JSON object per line")
    args = parser.parse_args()
    try:
        import gpusim.device  # noqa: F401
    except ImportError:
        sys.exit("needs the emulated GPU: run this through gpusim/device/run")
    if not os.environ.get("GPUSIM_STATS"):
        sys.exit("needs counters per kernel: set GPUSIM_STATS to a file for them")
    for version in args.models:
        row = count(version, args.frames, getattr(torch, args.dtype))
        if args.json:
            print(json.dumps(row), flush=True)
            continue
        print(
            f"{row['model']}, {row['frames']} frames: {row['graph_nodes']} graph nodes "
            f"(eager: {row['eager_operators']} operators), FLOPs issued "
            f"{row['flops_issued'] / row['flops_needed']:.2f} x needed, "
            f"{row['bytes'] / 1e6:.1f} MB = eager's {row['eager_bytes'] / 1e6:.1f} MB "
            f"/ {row['eager_bytes'] / row['bytes']:.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
