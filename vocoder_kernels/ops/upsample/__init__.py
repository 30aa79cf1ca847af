"""Transposed convolution as a polyphase matrix product."""

from __future__ import annotations

from .desc import UpsampleDesc, pack

__all__ = ["UpsampleDesc", "pack"]
