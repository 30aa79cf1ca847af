"""Any length, any batch, ragged or not, on whatever backend was compiled."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import torch

from ..backends import Executable
from ..program import Vocoder
from .stream import Stream
from .window_times import WindowTime


class Engine:
    """A compiled vocoder: call it as the original module.

    Exact for every length; memory does not grow beyond one window. Safe to call from many threads:
    calls on one engine take turns.
    """

    def __init__(
        self, vocoder: Vocoder, executable: Executable, device: torch.device, dtype: torch.dtype
    ):
        self.vocoder = vocoder
        self.executable = executable
        self.device = device
        self.dtype = dtype
        self._lock = threading.Lock()
        self._released = False

    def __call__(
        self,
        x: torch.Tensor,
        g: torch.Tensor | None = None,
        lengths: Sequence[int] | torch.Tensor | None = None,
    ) -> torch.Tensor:
        """``x: [B, C_in, T]``, ``g: [B or 1, gin, 1]``, ``lengths``: valid frames per row, 1 to T.

        Returns ``[B, 1, length(T)]`` of the same dtype, a fresh tensor; samples beyond a row's own
        length are zero. Raises ``ValueError`` or ``TypeError`` for inputs that do not fit,
        ``RuntimeError`` after `release`.
        """
        self.check(x, g)
        frames = self._lengths(x, lengths)
        if g is not None:
            g = g.expand(x.shape[0], -1, -1)
        with torch.inference_mode(False), torch.no_grad():
            shape = (x.shape[0], 1, self.vocoder.length(x.shape[2]))
            ragged = any(n != x.shape[2] for n in frames)
            make = torch.zeros if ragged else torch.empty
            out = make(shape, dtype=self.dtype, device=self.device)
            with self._lock:
                self._must_be_live()
                self.executable.run(x.detach(), g if g is None else g.detach(), frames, out)
        return out

    def check(self, x: torch.Tensor, g: torch.Tensor | None) -> None:
        """Raise a sentence for an input that the vocoder cannot take."""
        _must_be_tensor("vocoder input", x)
        channels = self.vocoder.head.C_in
        if x.dim() != 3 or x.shape[1] != channels:
            raise ValueError(f"vocoder input: expected [B, {channels}, T], got {list(x.shape)}")
        _check_tensor("vocoder input", x, self.dtype, self.device)
        if g is None:
            return
        _must_be_tensor("vocoder condition g", g)
        cond = self.vocoder.cond
        if cond is None:
            raise ValueError(
                "vocoder condition g: this vocoder has no speaker conditioning; call it without g"
            )
        if g.dim() != 3 or g.shape[1] != cond.C_in or g.shape[2] != 1:
            raise ValueError(
                f"vocoder condition g: expected [B, {cond.C_in}, 1], got {list(g.shape)}"
            )
        if g.shape[0] not in (1, x.shape[0]):
            raise ValueError(
                f"vocoder condition g: expected batch 1 or {x.shape[0]} as the input's, "
                f"got {g.shape[0]}"
            )
        _check_tensor("vocoder condition g", g, self.dtype, self.device)

    @staticmethod
    def _lengths(x: torch.Tensor, lengths: Sequence[int] | torch.Tensor | None) -> list[int]:
        batch, T = x.shape[0], x.shape[2]
        if batch < 1 or T < 1:
            raise ValueError(
                f"vocoder input: expected at least one row and one frame, got {list(x.shape)}"
            )
        if lengths is None:
            return [T] * batch
        if isinstance(lengths, torch.Tensor) and lengths.dim() != 1:
            raise ValueError(f"lengths: expected [{batch}], got {list(lengths.shape)}")
        if not isinstance(lengths, (torch.Tensor, Sequence)):
            raise TypeError(
                f"lengths: expected one number per row or a tensor, got {type(lengths).__name__}"
            )
        values = lengths.tolist() if isinstance(lengths, torch.Tensor) else list(lengths)
        if len(values) != batch:
            raise ValueError(f"lengths: expected one per row ({batch}), got {len(values)}")
        for row, value in enumerate(values):
            if isinstance(value, bool) or not isinstance(value, int):
                raise TypeError(f"lengths[{row}]: expected a whole number, got {value!r}")
            if not 1 <= value <= T:
                raise ValueError(f"lengths[{row}]: expected 1 to {T}, got {value}")
        return values

    def stream(self, g: torch.Tensor | None = None, min_frames: int = 1) -> Stream:
        """Open a stream: push frames in pieces, get exact audio as early as possible."""
        return Stream(self, g, min_frames)

    def update(self, weights: dict[str, torch.Tensor]) -> None:
        """Take new weights of the same shapes, dtype and device."""
        with self._lock, torch.inference_mode(False), torch.no_grad():
            self._must_be_live()
            self.executable.update(weights)

    def warmup(self, frames: int, batch: int = 1) -> None:
        """Pay first-call costs (packing, compilation, capture) for such inputs now."""
        with self._lock, torch.inference_mode(False), torch.no_grad():
            self._must_be_live()
            self.executable.warmup(frames, batch)

    def release(self) -> None:
        """Give memory back; the engine cannot be called afterwards."""
        with self._lock:
            self._released = True
            self.executable.release()

    def _must_be_live(self) -> None:
        if self._released:
            raise RuntimeError("engine: called after release; compile the vocoder again")

    def statistics(self) -> dict[str, float]:
        return self.executable.statistics()

    def window_times(self) -> tuple[WindowTime, ...]:
        """How long windows of each size took; does not wait for calls under way."""
        return self.executable.window_times()

    def explain(self, frames: int) -> str:
        """The plan for an utterance of ``frames`` frames, printable."""
        return f"{self.vocoder}\n{self.executable.explain(frames)}"


def _must_be_tensor(what: str, value: object) -> None:
    if not isinstance(value, torch.Tensor):
        raise TypeError(f"{what}: expected a tensor, got {type(value).__name__}")


def _check_tensor(
    what: str, tensor: torch.Tensor, dtype: torch.dtype, device: torch.device
) -> None:
    if tensor.dtype != dtype:
        raise TypeError(f"{what}: expected {dtype} as the model's weights, got {tensor.dtype}")
    if tensor.device != device:
        raise ValueError(f"{what}: expected device {device} as the model's, got {tensor.device}")
