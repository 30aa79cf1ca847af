"""Audio while the frames still arrive: exact, in constant memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from .engine import Engine


class Stream:
    """Push frames in pieces of any size; get each sample as soon as its receptive field is there.

    The pieces joined are the audio of the joined frames: bit for bit on a GPU; on the CPU, whose
    transform kernels round by where a window starts, within 2e-6 of full scale.

    Only ``2 * receptive_field`` frames of the past are kept, and a piece that gives out n frames
    runs ``n + 2 * receptive_field``: as much at the end of an hour as at its start, but small
    pieces pay for the halo. With a receptive field of 11 frames (v1, v2), pieces of 22 frames cost
    twice as much per frame as the whole utterance, pieces of 100 frames 1.2 times. ``min_frames``
    makes the stream wait until at least so many frames can be given out.

    One stream belongs to one thread at a time; many streams may share an engine.
    """

    def __init__(self, engine: Engine, g: torch.Tensor | None = None, min_frames: int = 1):
        if min_frames < 1:
            raise ValueError(f"stream: expected min_frames of at least 1, got {min_frames}")
        self._engine = engine
        self._g = g
        self._min_frames = min_frames
        self._halo = engine.vocoder.receptive_field
        self._kept: torch.Tensor | None = None
        self._first_kept = 0
        self._given = 0
        self._flushed = False

    @property
    def frames_waiting(self) -> int:
        """Frames pushed whose audio has not been given out yet."""
        kept = 0 if self._kept is None else self._kept.shape[2]
        return self._first_kept + kept - self._given

    def push(self, x: torch.Tensor) -> torch.Tensor:
        """Take ``x: [B, C_in, n]``; returns ``[B, 1, m * hop]`` for the m frames now complete.

        Raises ``RuntimeError`` after `flush`, ``ValueError`` for another batch size.
        """
        self._append(x)
        ready = self.frames_waiting - self._halo
        if ready < self._min_frames:
            return self._silence(x)
        return self._give(self._given + ready, last=False)

    def flush(self) -> torch.Tensor:
        """The rest of the audio: the frames pushed so far are the whole utterance.

        Raises ``RuntimeError`` if nothing was pushed or the stream was flushed before.
        """
        if self._flushed:
            raise RuntimeError("stream: already flushed; open a new one for the next utterance")
        if self._kept is None or self._first_kept + self._kept.shape[2] == 0:
            raise RuntimeError("stream: flush needs at least one frame pushed before")
        self._flushed = True
        if self.frames_waiting == 0:  # a vocoder without receptive field has given out all
            return self._silence(self._kept)
        return self._give(self._given + self.frames_waiting, last=True)

    def _append(self, x: torch.Tensor) -> None:
        if self._flushed:
            raise RuntimeError("stream: push after flush; open a new one for the next utterance")
        self._engine.check(x, self._g)
        with torch.inference_mode(False), torch.no_grad():
            x = x.detach()
            if self._kept is None:
                self._kept = x.clone()
            elif x.shape[0] != self._kept.shape[0]:
                raise ValueError(
                    f"stream: expected {self._kept.shape[0]} rows as before, got {x.shape[0]}"
                )
            elif x.shape[2]:
                self._kept = torch.cat([self._kept, x], 2)

    def _silence(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode(False):
            return x.new_empty((x.shape[0], 1, 0))

    def _give(self, end: int, last: bool) -> torch.Tensor:
        """Audio of frames ``[given, end)``; then forget what no later frame needs."""
        kept = self._kept
        assert kept is not None, "frames were pushed before"
        audio = self._engine(kept, self._g)
        hop = self._engine.vocoder.hop_length
        start = (self._given - self._first_kept) * hop
        stop = audio.shape[2] if last else (end - self._first_kept) * hop
        self._given = end
        with torch.inference_mode(False), torch.no_grad():
            forget = max(0, end - self._halo - self._first_kept)
            self._kept = kept[:, :, forget:].clone()
            self._first_kept += forget
            return audio[:, :, start:stop].clone()
