"""``vocoder-kernels verify``: is the patched vocoder as accurate as the original?"""

from __future__ import annotations

import argparse

import torch

from .. import verify
from ..checkpoints import load_condition, load_input, load_vocoder
from ..families import describe
from ..modules import PRESETS, build
from . import FAILED_CHECK, OK
from .measure import FULL_SCALE_LIMIT, random_inputs
from .output import (
    add_json,
    add_threads,
    decibels,
    error,
    json_line,
    note,
    set_threads,
    table,
    whole_number,
)

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    source = parser.add_mutually_exclusive_group()
    source.add_argument("checkpoint", nargs="?", help="a file that holds a vocoder")
    source.add_argument(
        "--model",
        choices=[*PRESETS, "all"],
        help="the vocoder of a GPT-SoVITS version with random weights (default: v2)",
    )
    parser.add_argument("--config", help="the checkpoint's config.json, if it is not beside it")
    parser.add_argument("--input", metavar="MEL", help="input from .npy, .npz or .pt (else random)")
    parser.add_argument("--speaker", metavar="G", help="speaker vector from .npy, .npz or .pt")
    parser.add_argument("--frames", type=whole_number(1), default=32, help="random frames (32)")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="float32")
    add_threads(parser)
    add_json(parser, "one JSON object")


def run(args: argparse.Namespace) -> int:
    set_threads(args.threads)
    if args.checkpoint:
        loaded = load_vocoder(args.checkpoint, args.config)
        for text in loaded.notes:
            note(f"{args.checkpoint}: {text}")
        modules = {args.checkpoint: loaded.module}
    else:
        names = list(PRESETS) if args.model == "all" else [args.model or "v2"]
        modules = {name: build(name) for name in names}
    rows, ok = [], True
    for name, module in modules.items():
        found, passed = _check(name, module, args)
        rows += found
        ok = ok and passed
    if args.json:
        json_line({"ok": ok, "limit": FULL_SCALE_LIMIT, "rows": rows})
    else:
        _print(rows, ok, args.dtype)
    return OK if ok else FAILED_CHECK


def _check(name, module, args) -> tuple[list[dict], bool]:
    dtype = DTYPES[args.dtype]
    vocoder = describe(module)
    inputs = list(random_inputs(vocoder, args.frames))
    if args.input:
        inputs[0] = load_input(args.input, vocoder.head.C_in)
    if args.speaker:
        if vocoder.cond is None:
            raise ValueError(f"{name}: --speaker was given, but this vocoder takes no speaker")
        inputs[1:] = [load_condition(args.speaker, vocoder.cond.C_in)]
    module = module.to(args.device, dtype)
    errors = verify(module, *(t.to(args.device, dtype) for t in inputs))
    ours = [row for row in errors.rows if row.what.startswith("ours")]
    ok = errors.ok
    if dtype == torch.float32:
        ok = all(row.max_error <= FULL_SCALE_LIMIT for row in ours)
    rows = [
        {
            "model": name,
            "what": row.what,
            "frames": inputs[0].shape[2],
            "max_error": row.max_error,
            "rms_error": row.rms_error,
            "snr_db": row.snr_db,
        }
        for row in errors.rows
    ]
    return rows, ok


def _print(rows: list[dict], ok: bool, dtype: str) -> None:
    heads = ("model", "against float64", "frames", "max error", "rms error", "SNR")
    cells = [
        (
            r["model"],
            r["what"],
            str(r["frames"]),
            error(r["max_error"]),
            error(r["rms_error"]),
            decibels(r["snr_db"]),
        )
        for r in rows
    ]
    print(table(heads, cells))
    limit = "at most twice eager's error"
    if dtype == "float32":
        limit = f"at most {FULL_SCALE_LIMIT:.0e} of full scale"
    print(f"{'passed' if ok else 'FAILED'}: {limit} allowed")
