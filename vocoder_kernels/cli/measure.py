"""Times that can be compared and errors against float64."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Mapping
from typing import Any, Callable

import torch
from torch import nn

from .. import report
from ..patching import ErrorRow, verification
from ..program import Vocoder

FULL_SCALE_LIMIT = 1e-5
"""Most error of float32 against float64 that passes, audio between -1 and 1."""


def interleaved(
    calls: Mapping[str, Callable[[], Any]], repeats: int, device: str = "cpu"
) -> dict[str, float]:
    """Median seconds of each call. They take turns, each round starting with another one, so that
    a machine whose speed drifts treats them alike. One untimed call of each goes before."""
    measure = _gpu_seconds if device == "cuda" else _seconds
    names = list(calls)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with torch.inference_mode():
        for name in names:
            calls[name]()
        for i in range(repeats):
            for name in names[i % len(names) :] + names[: i % len(names)]:
                seconds[name].append(measure(calls[name]))
    return {name: statistics.median(values) for name, values in seconds.items()}


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _gpu_seconds(call: Callable[[], Any]) -> float:
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3


def against_float64(
    original: nn.Module, outputs: Mapping[str, torch.Tensor], inputs: tuple[torch.Tensor, ...]
) -> dict[str, ErrorRow]:
    """Errors of each output against a float64 copy of ``original`` on the same inputs."""
    with torch.inference_mode(False), torch.no_grad():
        exact = copy.deepcopy(original).double()(*(t.double() for t in inputs))
    return {name: ErrorRow.of("", name, exact, got) for name, got in outputs.items()}


def fell_back(module: nn.Module) -> str:
    """Why calls of a patched module ran its original forward, or an empty string."""
    causes = []
    for part in report(module):
        causes += part.originals
        if part.why and part.why not in causes:
            causes.append(part.why)
    return "; ".join(causes)


def random_inputs(
    vocoder: Vocoder, frames: int, dtype: torch.dtype = torch.float32, device: str = "cpu"
) -> tuple[torch.Tensor, ...]:
    """Arguments of the vocoder's forward: the input, and a condition for one that takes it."""
    x, g = verification.random_inputs(vocoder, torch.device(device), dtype, frames)
    return (x,) if g is None else (x, g)
