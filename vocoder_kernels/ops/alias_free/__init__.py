"""Anti-aliased snake activation of one or more tensors in one launch."""

from __future__ import annotations

from .desc import TAPS, AliasFreeDesc, pack_filters

__all__ = ["TAPS", "AliasFreeDesc", "pack_filters"]
