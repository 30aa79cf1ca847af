"""Whole residual units of narrow channels, every branch of a stage in one launch."""

from __future__ import annotations

from .desc import ResidualUnitDesc, pack_filters

__all__ = ["ResidualUnitDesc", "pack_filters"]
