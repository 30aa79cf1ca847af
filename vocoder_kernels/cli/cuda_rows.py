"""The rows of ``vocoder-kernels bench --device cuda``: eager in its variants against patched."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Callable

import torch
from torch import nn

from .. import patch
from ..families import describe
from ..modules import SAMPLE_RATE_HZ, build
from .measure import FULL_SCALE_LIMIT, against_float64, fell_back, interleaved, random_inputs
from .output import error, milliseconds
from .rows import CHECK_FRAMES, Row, Target

TWICE_EAGER = 2.0


def cuda_rows(
    models: list[str], seconds: float, repeats: int, dtype: str, torch_compile: bool
) -> Iterator[Row]:
    """Raises ``ValueError`` where there is no CUDA device."""
    if not torch.cuda.is_available():
        raise ValueError(
            "--device cuda: PyTorch sees no CUDA device; `vocoder-kernels doctor` tells why"
        )
    for version in models:
        yield from _model_rows(version, seconds, repeats, getattr(torch, dtype), torch_compile)


def _model_rows(
    version: str, seconds: float, repeats: int, dtype: torch.dtype, torch_compile: bool
) -> Iterator[Row]:
    eager = build(version).to("cuda", dtype)
    vocoder = describe(eager)
    ours = {}
    for name, graphs in (("patched", True), ("patched, no graph", False)):
        ours[name] = copy.deepcopy(eager)
        if not patch(ours[name], cuda_graphs=graphs):
            why = f"not patched: {fell_back(ours[name])}"
            yield Row(f"{version}: {name}", None, "x", ok=False, why=why)
            return
    check = _accuracy(
        version, eager, ours["patched"], random_inputs(vocoder, CHECK_FRAMES, dtype, "cuda")
    )
    yield check
    if not check.ok:
        return
    frames = max(1, round(seconds * SAMPLE_RATE_HZ[version] / vocoder.hop_length))
    inputs = random_inputs(vocoder, frames, dtype, "cuda")
    calls: dict[str, Callable[[], Any]] = {
        "eager": lambda: eager(*inputs),
        "eager, cudnn.benchmark": lambda: _benchmarked(eager, inputs),
    }
    if torch_compile:
        compiled = torch.compile(copy.deepcopy(eager))
        calls["torch.compile"] = lambda: compiled(*inputs)
    for name, module in ours.items():
        calls[name] = partial(module, *inputs)
    medians = interleaved(calls, repeats, "cuda")
    why = "; ".join(filter(None, map(fell_back, ours.values())))
    if why:
        why = f"the original forward ran: {why}"
        yield Row(f"{version}: eager / patched, {seconds:g} s", None, "x", ok=False, why=why)
        return
    audio_s = vocoder.length(frames) / SAMPLE_RATE_HZ[version]
    for name in calls:
        if name in ours:
            continue
        for mine in ours:
            yield Row(
                f"{version}: {name} / {mine}, {seconds:g} s",
                medians[name] / medians[mine],
                "x",
                baseline=milliseconds(medians[name]),
                patched=milliseconds(medians[mine]),
                rtf=f"{medians[mine] / audio_s:.5f}",
                details={"frames": frames, "seconds": medians, "dtype": str(dtype)},
            )


def _benchmarked(module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> torch.Tensor:
    with _cudnn_benchmark():
        return module(*inputs)


@contextmanager
def _cudnn_benchmark():
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def _accuracy(
    version: str, eager: nn.Module, patched: nn.Module, inputs: tuple[torch.Tensor, ...]
) -> Row:
    """At most twice eager's error in the same dtype, and a float32 floor."""
    with torch.inference_mode():
        outputs = {"eager": eager(*inputs), "patched": patched(*inputs)}
    errors = against_float64(eager, outputs, inputs)
    theirs, mine = errors["eager"].max_error, errors["patched"].max_error
    limit = max(TWICE_EAGER * theirs, FULL_SCALE_LIMIT)
    ok = mine <= limit
    return Row(
        f"{version}: max error against float64",
        mine,
        "full scale",
        Target(limit, theirs, more_is_better=False),
        baseline=error(theirs),
        patched=error(mine),
        ok=ok,
        why="" if ok else f"max error {mine:.1e} is above {limit:.1e}",
    )
