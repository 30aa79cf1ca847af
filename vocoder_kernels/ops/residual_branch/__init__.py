"""Whole residual branches of narrow channels, every unit of every branch in one launch."""

from __future__ import annotations

from .desc import ResidualBranchDesc

__all__ = ["ResidualBranchDesc"]
