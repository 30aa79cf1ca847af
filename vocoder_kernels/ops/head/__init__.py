"""First convolution: the caller's ``[B, C_in, T]`` to a channels-last buffer."""

from __future__ import annotations

from .desc import HeadDesc, pack, pack_condition

__all__ = ["HeadDesc", "pack", "pack_condition"]
