#!/usr/bin/env python3
"""Many clients on one patched vocoder: requests one by one, and joined into ragged batches.

    python benchmarks/concurrency.py --model v2 --clients 8 --frames 50 200

Every client sends requests of its own lengths one after the other. Prints requests and seconds of
audio per second, and how long a request takes. On a CPU a batch is run row by row with all threads,
so joining brings no throughput, but it serves in the order of arrival, which a lock does not: with
8 clients of v2 on two busy cores the 95th percentile fell from 4.8 s to 2.7 s, and to 2.3 s with
2 ms of waiting. On a GPU it is meant to fill what one short request leaves idle.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import threading
import time

import torch
from service_report import quantile

import vocoder_kernels
from vocoder_kernels.cli.output import json_line, milliseconds, table
from vocoder_kernels.modules.presets import PRESETS, SAMPLE_RATE_HZ, build

WAYS: dict[str, dict] = {
    "one by one": {},
    "joined": {"join_requests": 8},
    "joined, 2 ms": {"join_requests": 8, "join_wait_ms": 2},
}


def client(
    model: torch.nn.Module, made: list[tuple], stop: threading.Event, seconds: list[float]
) -> None:
    while not stop.is_set():
        for arguments in made:
            start = time.perf_counter()
            with torch.inference_mode():
                model(*arguments)
                if arguments[0].is_cuda:
                    torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
            if stop.is_set():
                return


def requests(args: argparse.Namespace, model: torch.nn.Module, seed: int) -> list[tuple]:
    source = random.Random(seed)
    weight = next(model.parameters())
    cond = getattr(model, "cond", None)
    made = []
    for _ in range(8):
        frames = source.randint(*args.frames)
        x = torch.randn(1, model.conv_pre.in_channels, frames).to(weight)
        g = () if cond is None else (torch.randn(1, cond.in_channels, 1).to(weight),)
        made.append((x, *g))
    return made


def measure(args: argparse.Namespace, model: torch.nn.Module, options: dict) -> dict:
    """Run all clients for ``args.seconds``. Raises ``RuntimeError`` if a call was not ours."""
    outcome = vocoder_kernels.patch(model, threads=args.threads, **options)
    if not outcome:
        raise RuntimeError(f"not patched: {outcome}")
    workload = [requests(args, model, seed) for seed in range(args.clients)]
    for made in workload:
        with torch.inference_mode():
            model(*max(made, key=lambda arguments: arguments[0].shape[2]))
    frames = [a[0].shape[2] for made in workload for a in made]
    stop, seconds = threading.Event(), [[] for _ in workload]
    threads = [
        threading.Thread(target=client, args=(model, made, stop, taken))
        for made, taken in zip(workload, seconds)
    ]
    before = vocoder_kernels.report(model).modules[0].statistics
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    time.sleep(args.seconds)
    stop.set()
    for thread in threads:
        thread.join()
    elapsed = time.perf_counter() - start
    (state,) = vocoder_kernels.report(model)
    if state.originals:
        raise RuntimeError(f"the original forward ran: {dict(state.originals)}")
    taken = [s for client_seconds in seconds for s in client_seconds]
    done = state.statistics["accelerated"] - before["accelerated"]
    return {
        "requests_per_s": done / elapsed,
        "audio_s_per_s": done * statistics.mean(frames) * args.frame_s / elapsed,
        "p50_s": statistics.median(taken),
        "p95_s": quantile(taken, 0.95),
        "joined": state.statistics.get("joined", 0) - before.get("joined", 0),
    }


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(PRESETS), default="v2")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--half", action="store_true")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--frames", type=int, nargs=2, default=[50, 200], metavar=("MIN", "MAX"))
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    args = parser.parse_args(argv)
    if args.clients < 1 or not 1 <= args.frames[0] <= args.frames[1]:
        parser.error("expected at least one client, and --frames MIN MAX with 1 <= MIN <= MAX")
    model = build(args.model).to(args.device)
    model = model.half() if args.half else model
    hop = vocoder_kernels.compile(model, verify=False).vocoder.hop_length
    args.frame_s = hop / SAMPLE_RATE_HZ[args.model]
    rows = [{"way": way, **measure(args, model, options)} for way, options in WAYS.items()]
    if args.json:
        for row in rows:
            json_line(row)
        return 0
    cells = [
        (
            r["way"],
            f"{r['requests_per_s']:.2f}",
            f"{r['audio_s_per_s']:.2f}",
            milliseconds(r["p50_s"]),
            milliseconds(r["p95_s"]),
            f"{r['joined']:.0f}",
        )
        for r in rows
    ]
    print(table(("requests", "per s", "audio s/s", "p50", "p95", "joined"), cells))
    return 0


if __name__ == "__main__":
    sys.exit(main())
