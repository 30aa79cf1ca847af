"""Last convolution: the mean of the branches to one channel of audio."""

from __future__ import annotations

from .desc import SnakeWeights, TailDesc, pack

__all__ = ["SnakeWeights", "TailDesc", "pack"]
