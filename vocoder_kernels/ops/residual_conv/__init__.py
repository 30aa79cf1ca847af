"""One convolution of every branch of a stage in one launch, residual and activation included."""

from __future__ import annotations

from .desc import ResidualConvDesc, pack

__all__ = ["ResidualConvDesc", "pack"]
