"""What a backend promises to the engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

from ..options import Options
from ..program import Vocoder
from ..runtime.window_times import WindowTime


@dataclass(frozen=True)
class Support:
    """Whether something can run, and if not, why: one sentence for messages, reports and skips."""

    ok: bool
    reason: str = ""

    def __bool__(self) -> bool:
        return self.ok


class Executable(Protocol):
    """A vocoder compiled for one device: weights packed, memory planned.

    Calls come one at a time (the engine holds a lock).
    """

    def run(
        self,
        x: torch.Tensor,
        g: torch.Tensor | None,
        lengths: Sequence[int],
        out: torch.Tensor,
    ) -> None:
        """``x: [B, C_in, T]``, ``g: [B, gin, 1]`` or None, ``lengths``: valid frames per row (at
        least 1); writes the first ``length(lengths[b])`` samples of row b of ``out: [B, 1, L]``."""

    def update(self, weights: dict[str, torch.Tensor]) -> None:
        """Take new values of the same shapes."""

    def warmup(self, frames: int, batch: int) -> None:
        """Do now what the first call with such an input would do."""

    def release(self) -> None:
        """Give back packed weights and pool."""

    def statistics(self) -> dict[str, float]:
        """Counters, e.g. pool_bytes, packed_bytes, windows."""

    def window_times(self) -> tuple[WindowTime, ...]:
        """How long windows of each size took; does not wait for a call under way."""

    def explain(self, frames: int) -> str:
        """The plan for ``frames`` frames: steps, kernels, buffers, bytes, FLOPs."""


class Backend(Protocol):
    """One way to run vocoders."""

    name: str

    def can_run(self, vocoder: Vocoder, device: torch.device, dtype: torch.dtype) -> Support: ...

    def compile(
        self,
        vocoder: Vocoder,
        weights: dict[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
        options: Options,
    ) -> Executable: ...
