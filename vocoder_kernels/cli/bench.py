"""``vocoder-kernels bench``: the measured table, each figure beside what it should reach."""

from __future__ import annotations

import argparse
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .. import native
from ..modules import PRESETS
from . import FAILED_CHECK, OK
from .output import (
    add_json,
    add_threads,
    choices,
    json_line,
    note,
    positive,
    set_threads,
    table,
    whole_number,
)
from .rows import HEADS, Row, cpu_rows

KINDS = ("speed", "small", "peers", "first-call", "memory")
MODELS = ("v2", "v4", "v2proplus", "v3")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--models", type=choices(list(PRESETS)), default=list(MODELS), help=",".join(MODELS)
    )
    parser.add_argument(
        "--rows", type=choices(KINDS), default=list(KINDS), help=f"which rows ({','.join(KINDS)})"
    )
    parser.add_argument("--seconds", type=positive, default=3.0, help="of audio per call (3)")
    parser.add_argument("--repeats", type=whole_number(1), default=5, help="timed calls each (5)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument(
        "--dtype", choices=["float16", "bfloat16", "float32"], default="float16", help="on cuda"
    )
    parser.add_argument("--torch-compile", action="store_true", help="also torch.compile, on cuda")
    parser.add_argument("--operations", action="store_true", help="single layers, not whole models")
    parser.add_argument("--gate", action="store_true", help="exit 1 if a figure misses its gate")
    add_threads(parser)
    add_json(parser, "one JSON object per line")


def run(args: argparse.Namespace) -> int:
    threads = set_threads(args.threads)
    where = environment(threads, args.device)
    if args.json:
        json_line({"environment": where})
    else:
        print(", ".join(f"{v}" if k == "device" else f"{k} {v}" for k, v in where.items()) + "\n")
    if args.operations:
        from .operations import operations_table

        return operations_table(args, threads)
    rows = []
    for row in _rows(args, threads):
        rows.append(row)
        if args.json:
            json_line(row.as_dict())
        else:
            note(f"  measured {row.name}: {row.verdict}")
    if not args.json:
        _print(rows, args)
    failed = any(not row.ok for row in rows)
    missed = args.gate and any(row.verdict == "missed" for row in rows)
    return FAILED_CHECK if failed or missed else OK


def environment(threads: int, device: str) -> dict[str, Any]:
    """What a figure depends on."""
    name = _processor()
    if device == "cuda" and torch.cuda.is_available():
        name = torch.cuda.get_device_name()
    isa = native.best_isa() if native.available() else "no native kernels"
    return {"device": name, "threads": threads, "isa": isa, "torch": torch.__version__}


def _rows(args: argparse.Namespace, threads: int) -> Iterator[Row]:
    if args.device == "cuda":
        from .cuda_rows import cuda_rows

        return cuda_rows(args.models, args.seconds, args.repeats, args.dtype, args.torch_compile)
    return cpu_rows(args.models, args.rows, args.seconds, args.repeats, threads)


def _print(rows: list[Row], args: argparse.Namespace) -> None:
    note("")
    print(table(HEADS, [row.cells() for row in rows]))
    remarks = [f"{row.name}: {row.why}" for row in rows if row.why]
    if remarks:
        print("\n" + "\n".join(remarks))
    print(
        "\nMedians of calls in turns. RTF: seconds of computing per second of audio, patched.\n"
        "Random weights, weight norm folded."
    )


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
