"""Which share of a request each stage of a GPT-SoVITS pipeline really has.

Stages: text (normalisation, phonemes, BERT), semantic (the autoregressive model), acoustic (flow or
diffusion up to latent or mel), vocoder. A stage's time excludes what stages inside it take, so the
parts add up to at most the whole. Source of the method names: upstream TTS_infer_pack/TTS.py.
"""

from __future__ import annotations

import inspect
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable

import torch
from torch import nn

from ...families import family_of

STAGES = ("text", "semantic", "acoustic", "vocoder")
TEXT_METHODS = ("preprocess", "pre_seg_text", "segment_and_extract_feature_for_text")
SEMANTIC_METHODS = (
    "infer_panel",
    "infer_panel_naive",
    "infer_panel_naive_batched",
    "infer_panel_batch_infer",
)
ACOUSTIC_METHODS = (
    "using_vocoder_synthesis",
    "using_vocoder_synthesis_batched_infer",
    "non_vocoder_synthesis_batched_infer",
)
DECODE_METHODS = ("decode", "batched_decode", "decode_streaming")


@dataclass
class StageTimes:
    """Seconds and calls per stage, and of everything while the timer was on."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))
    total_seconds: float = 0.0

    def add(self, other: StageTimes) -> None:
        """Count what ``other`` measured as well."""
        for stage in STAGES:
            self.seconds[stage] += other.seconds[stage]
            self.calls[stage] += other.calls[stage]
        self.total_seconds += other.total_seconds

    def __str__(self) -> str:
        lines = [f"{'stage':<10} {'seconds':>9} {'share':>7} {'calls':>6}"]
        other = max(0.0, self.total_seconds - sum(self.seconds.values()))
        rows = [(s, self.seconds[s], str(self.calls[s])) for s in STAGES] + [("other", other, "")]
        for stage, seconds, calls in rows:
            share = seconds / self.total_seconds if self.total_seconds else 0.0
            lines.append(f"{stage:<10} {seconds:>9.3f} {share:>6.1%} {calls:>6}")
        return "\n".join(lines)


class _Clock:
    """Adds what calls take to their stages; a call inside another is not counted in both."""

    def __init__(self, times: StageTimes, device: Any):
        self._times = times
        self._device = torch.device(device) if "cuda" in str(device) else None
        self._local = threading.local()
        self._lock = threading.Lock()

    def now(self) -> float:
        if self._device is not None:
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def measure(self, stage: str, action: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        inner_seconds: list[float] = self._local.__dict__.setdefault("inner_seconds", [])
        start = self.now()
        inner_seconds.append(0.0)
        try:
            return action(*args, **kwargs)
        finally:
            spent = self.now() - start
            inside = inner_seconds.pop()
            if inner_seconds:
                inner_seconds[-1] += spent
            with self._lock:
                self._times.seconds[stage] += spent - inside

    def timed(self, stage: str, inner: Callable[..., Any]) -> Callable[..., Any]:
        """``inner`` as a call of ``stage``."""

        def outer(*args: Any, **kwargs: Any) -> Any:
            with self._lock:
                self._times.calls[stage] += 1
            result = self.measure(stage, inner, *args, **kwargs)
            return self._step_by_step(stage, result) if inspect.isgenerator(result) else result

        return outer

    def _step_by_step(self, stage: str, generator: Any) -> Iterator[Any]:
        """What streaming stages yield; their own steps are measured, not what is done between."""
        ended = object()
        try:
            while (item := self.measure(stage, next, generator, ended)) is not ended:
                yield item
        finally:
            generator.close()


@contextmanager
def timed(tts: Any) -> Iterator[StageTimes]:
    """Time the stages of a live ``TTS`` pipeline while the block runs.

    On a GPU every stage boundary waits for the device, which makes the whole slightly slower.
    Raises ``ValueError`` if the object has no stage that could be timed.
    """
    times = StageTimes()
    clock = _Clock(times, getattr(getattr(tts, "configs", None), "device", ""))
    undo: list[Callable[[], None]] = []

    def wrap(owner: Any, name: str, stage: str) -> None:
        inner = getattr(owner, name, None)
        if callable(inner):
            undo.append(_replace(owner, name, clock.timed(stage, inner)))

    _wrap_stages(tts, wrap)
    if not undo:
        raise ValueError(f"timed: {type(tts).__name__} has none of the stages of a TTS pipeline")
    start = clock.now()
    try:
        yield times
    finally:
        times.total_seconds = clock.now() - start
        for restore in reversed(undo):
            restore()


def _wrap_stages(tts: Any, wrap: Callable[[Any, str, str], None]) -> None:
    for name in TEXT_METHODS:
        wrap(getattr(tts, "text_preprocessor", None), name, "text")
    for name in SEMANTIC_METHODS:
        wrap(getattr(getattr(tts, "t2s_model", None), "model", None), name, "semantic")
    for name in ACOUSTIC_METHODS:
        wrap(tts, name, "acoustic")
    vits = getattr(tts, "vits_model", None)
    for name in DECODE_METHODS:
        wrap(vits, name, "acoustic")
    for owner in (getattr(tts, "vocoder", None), vits):
        if isinstance(owner, nn.Module):
            for module in owner.modules():
                if family_of(module) is not None:
                    wrap(module, "forward", "vocoder")


def _replace(owner: Any, name: str, value: Any) -> Callable[[], None]:
    """Set an instance attribute; returns what puts the former state back."""
    had = name in vars(owner)
    former = vars(owner).get(name)
    object.__setattr__(owner, name, value)

    def restore() -> None:
        if had:
            object.__setattr__(owner, name, former)
        elif name in vars(owner):
            object.__delattr__(owner, name)

    return restore
