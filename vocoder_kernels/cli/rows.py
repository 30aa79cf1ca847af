"""The rows of ``vocoder-kernels bench`` on the CPU: what each one is and how it is measured."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import patch
from ..families import describe
from ..modules import SAMPLE_RATE_HZ, build
from .measure import FULL_SCALE_LIMIT, against_float64, fell_back, interleaved, random_inputs
from .output import error, milliseconds

SMALL_FRAMES = 10
CHECK_FRAMES = 24
LONG_S, SHORT_S = 60.0, 6.0
BESIDE = Path(__file__).resolve().parents[2]
"""The folder that holds the package."""


@dataclass(frozen=True)
class Target:
    """A figure to reach; ``gate`` must be, ``goal`` should be."""

    gate: float
    goal: float
    more_is_better: bool = True

    def verdict(self, value: float) -> str:
        for name, bound in (("goal", self.goal), ("gate", self.gate)):
            if value >= bound if self.more_is_better else value <= bound:
                return name
        return "missed"


SPEED = Target(3.0, 4.0)
SMALL = Target(2.0, 3.0)
PEERS = Target(1.8, 2.3)
FIRST_CALL_S = Target(2.0, 0.5, more_is_better=False)
EXTRA_MIB = Target(32.0, 8.0, more_is_better=False)


@dataclass(frozen=True)
class Row:
    """One measured figure. ``value`` is None where an accuracy check failed or nothing could be
    measured; ``why`` then tells."""

    name: str
    value: float | None
    unit: str
    target: Target | None = None
    baseline: str = ""
    patched: str = ""
    rtf: str = ""
    ok: bool = True
    why: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "FAILED" if not self.ok else "not measured"
        return self.target.verdict(self.value) if self.target else ""

    def cells(self) -> tuple[str, ...]:
        result = "" if self.value is None else _with_unit(self.value, self.unit)
        gate, goal = ("", "")
        if self.target:
            gate, goal = (_with_unit(t, self.unit) for t in (self.target.gate, self.target.goal))
        return (self.name, self.baseline, self.patched, self.rtf, result, gate, goal, self.verdict)

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "verdict": self.verdict}


HEADS = ("row", "baseline", "patched", "RTF", "result", "gate", "goal", "reached")


def _with_unit(value: float, unit: str) -> str:
    if unit == "x":
        return f"{value:.2f}x"
    if unit == "full scale":
        return error(value)
    return f"{value:.2f} {unit}" if value < 10 else f"{value:.0f} {unit}"


class Pair:
    """One version's vocoder twice: eager with plain weights, and patched."""

    def __init__(self, version: str):
        self.version = version
        self.rate_hz = SAMPLE_RATE_HZ[version]
        self.eager = build(version)
        self.patched = copy.deepcopy(self.eager)
        self.vocoder = describe(self.eager)
        self.why = "" if patch(self.patched) else f"not patched: {fell_back(self.patched)}"

    def frames(self, seconds: float) -> int:
        return max(1, round(seconds * self.rate_hz / self.vocoder.hop_length))

    def seconds(self, frames: int) -> float:
        return self.vocoder.length(frames) / self.rate_hz

    def accuracy(self) -> Row:
        """The check that must pass before any speed-up of this vocoder is shown."""
        name = f"{self.version}: max error against float64"
        if self.why:
            return Row(name, None, "full scale", ok=False, why=self.why)
        inputs = random_inputs(self.vocoder, CHECK_FRAMES)
        with torch.inference_mode():
            outputs = {"eager": self.eager(*inputs), "patched": self.patched(*inputs)}
        errors = against_float64(self.eager, outputs, inputs)
        eager, ours = errors["eager"], errors["patched"]
        ok = ours.max_error <= FULL_SCALE_LIMIT
        return Row(
            name,
            ours.max_error,
            "full scale",
            Target(FULL_SCALE_LIMIT, eager.max_error, more_is_better=False),
            baseline=error(eager.max_error),
            patched=error(ours.max_error),
            ok=ok,
            why="" if ok else f"max error {ours.max_error:.1e} is above {FULL_SCALE_LIMIT:.0e}",
            details={
                "frames": CHECK_FRAMES,
                "eager_rms_error": eager.rms_error,
                "patched_rms_error": ours.rms_error,
            },
        )

    def speed(self, name: str, frames: int, repeats: int, target: Target, check: Row) -> Row:
        """Eager against patched; without a value if ``check`` failed or outputs differ."""
        if not check.ok:
            return Row(name, None, "x", target, ok=False, why=check.why)
        inputs = random_inputs(self.vocoder, frames)
        why = _difference(self.eager, self.patched, inputs)
        if why:
            return Row(name, None, "x", target, ok=False, why=why)
        calls = {"eager": lambda: self.eager(*inputs), "patched": lambda: self.patched(*inputs)}
        seconds = interleaved(calls, repeats)
        why = fell_back(self.patched)
        if why:
            return Row(name, None, "x", target, ok=False, why=f"the original forward ran: {why}")
        audio_s = self.seconds(frames)
        return Row(
            name,
            seconds["eager"] / seconds["patched"],
            "x",
            target,
            baseline=milliseconds(seconds["eager"]),
            patched=milliseconds(seconds["patched"]),
            rtf=f"{seconds['patched'] / audio_s:.3f}",
            details={
                "frames": frames,
                "audio_s": audio_s,
                "eager_s": seconds["eager"],
                "patched_s": seconds["patched"],
                "eager_rtf": seconds["eager"] / audio_s,
                "patched_rtf": seconds["patched"] / audio_s,
                "patched_gflops": self.vocoder.flops(frames) / seconds["patched"] / 1e9,
            },
        )


def _difference(eager: nn.Module, patched: nn.Module, inputs: tuple[torch.Tensor, ...]) -> str:
    """Why two modules do not give the same audio on the very input that is timed, or nothing."""
    with torch.inference_mode():
        difference = (eager(*inputs) - patched(*inputs)).abs().max().item()
    if difference <= 2 * FULL_SCALE_LIMIT:
        return ""
    return f"patched differs from eager by {difference:.1e} on the timed input"


def first_call(version: str, seconds: float) -> Row:
    """Patching and the first call: recognition, packing, comparison, memory, then the audio."""
    name = f"{version}: patch and first call, packing included"
    module = build(version)
    vocoder = describe(module)
    frames = max(1, round(seconds * SAMPLE_RATE_HZ[version] / vocoder.hop_length))
    inputs = random_inputs(vocoder, frames)
    with torch.inference_mode():
        start = time.perf_counter()
        report = patch(module)
        patched_at = time.perf_counter()
        module(*inputs)
        done = time.perf_counter()
        if not report:
            why = f"not patched: {fell_back(module)}"
            return Row(name, None, "s", FIRST_CALL_S, ok=False, why=why)
        module(*inputs)
        steady_s = time.perf_counter() - done
    first_s = done - patched_at
    return Row(
        name,
        done - start,
        "s",
        FIRST_CALL_S,
        patched=f"{milliseconds(patched_at - start)} + {milliseconds(first_s)}",
        details={
            "patch_s": patched_at - start,
            "first_call_s": first_s,
            "second_call_s": steady_s,
            "audio_s": seconds,
        },
    )


def memory(version: str, threads: int) -> Row:
    """Growth of the process's highest resident memory from a short to a long utterance, beyond
    that of the caller's own input and audio.

    Each length runs in a process of its own, after one call with the short one, and the peak is
    that of the measured call alone: it holds everything in the process.
    """
    name = f"{version}: peak memory, {LONG_S:.0f} s against {SHORT_S:.0f} s"
    peaks = {}
    for seconds in (SHORT_S, LONG_S):
        probe = [sys.executable, "-m", f"{__package__}.memory_probe", version, str(seconds)]
        probe.append(str(threads))
        # There, -m finds this very package, whatever folder of its name the user stands in.
        done = subprocess.run(probe, cwd=BESIDE, capture_output=True, text=True, check=False)
        if done.returncode:
            why = done.stderr.strip().rsplit("\n", 1)[-1]
            return Row(name, None, "MiB", EXTRA_MIB, ok=False, why=f"the probe failed: {why}")
        peaks[seconds] = json.loads(done.stdout)
    short, long = peaks[SHORT_S], peaks[LONG_S]
    audio_mib = long["tensors_mib"] - short["tensors_mib"]
    growth_mib = long["peak_mib"] - short["peak_mib"]
    return Row(
        name,
        growth_mib - audio_mib,
        "MiB",
        EXTRA_MIB,
        baseline=f"{short['peak_mib']:.0f} MiB",
        patched=f"{long['peak_mib']:.0f} MiB",
        details={"short": short, "long": long, "input_and_audio_mib": audio_mib},
        why=f"the peak grows by {growth_mib:.1f} MiB, of which the caller's input and audio are "
        f"{audio_mib:.1f} MiB",
    )


def cpu_rows(
    models: list[str], kinds: list[str], seconds: float, repeats: int, threads: int
) -> Iterator[Row]:
    """In the order of the table; each is yielded as soon as it is known."""
    for version in models:
        if not {"speed", "small", "peers"} & set(kinds):
            break
        pair = Pair(version)
        check = pair.accuracy()
        yield check
        if "speed" in kinds:
            label = f"{version}: eager / patched, {seconds:g} s"
            yield pair.speed(label, pair.frames(seconds), repeats, SPEED, check)
        if "small" in kinds and version == "v4":
            label = f"{version}: eager / patched, {SMALL_FRAMES} frames"
            yield pair.speed(label, SMALL_FRAMES, max(20, repeats), SMALL, check)
        if "peers" in kinds and version in ("v2", "v4"):
            from .peers import peer_rows

            yield from peer_rows(pair, pair.frames(seconds), repeats, threads, check)
    if "first-call" in kinds:
        yield first_call("v4", seconds)
    if "memory" in kinds:
        yield memory("v4", threads)
