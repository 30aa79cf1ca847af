#!/usr/bin/env python3
"""A whole forward counted on the emulated GPU: graph nodes, FLOPs issued, bytes moved.

    ../shared/gpusim/device/run python benchmarks/counted_forward.py --models v4 v3 --frames 30

FLOPs are those of matrix instructions, against the convolutions'. Bytes are the distinct ones each
launch reads and writes, which is the least its DRAM traffic can be; eager's are the inputs and
outputs of its operators, weight norm folded. Nothing here was measured on a GPU.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


class Traffic(TorchDispatchMode):
    """Bytes of the tensors that operators read and write, and how many operators there are."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if not func.is_view and func is not torch.ops.aten.detach.default:
            self.operators += 1
            leaves = tree_leaves((args, kwargs or {}, out))
            self.nbytes += sum(t.nbytes for t in leaves if isinstance(t, torch.Tensor))
        return out


def eager_traffic(module: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> Traffic:
    """Counted from shapes: on tensors without storage."""
    empty = [a.to("meta") for a in arguments]
    module.to("meta")
    with torch.no_grad(), Traffic() as traffic:
        module(*empty)
    return traffic


def launch_counters() -> dict[str, dict[str, Any]]:
    """Sums over launches so far, per kernel."""
    from gpusim import device

    return {name: kernel["sum"] for name, kernel in device.stats()["kernels"].items()}


def matrix_flops(counters: dict[str, Any]) -> int:
    return sum(kind["flops"] for kind in counters["mma"].values())


def nbytes(counters: dict[str, Any]) -> int:
    return counters["unique_bytes_read"] + counters["unique_bytes_written"]


def count(version: str, frames: int, dtype: torch.dtype) -> dict[str, Any]:
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
    eager = eager_traffic(module, tuple(arguments))
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
