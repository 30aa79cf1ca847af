"""Triton device functions shared by the kernels."""

from __future__ import annotations

import re

import triton
import triton.language as tl

if [int(n) for n in re.findall(r"\d+", triton.__version__)[:2]] < [3, 3]:
    # Tuples as arguments.
    raise ImportError(f"Triton 3.3 (PyTorch 2.7) or later is needed, found {triton.__version__}")


@triton.jit
def valid_rows(ranges, b, scale, extra):
    """First and last + 1 valid sample of row ``b``."""
    start = tl.load(ranges + 2 * b)
    end = tl.load(ranges + 2 * b + 1)
    return start * scale, tl.where(end > start, end * scale + extra, start * scale)


@triton.jit
def leaky(x, slope):
    """LeakyReLU for slopes up to 1; a maximum compiles better than a select."""
    return tl.maximum(x, x * slope)


@triton.jit
def choose(values, i, N: tl.constexpr):
    """``values[i]`` of a tuple of N run-time values."""
    chosen = values[0]
    for j in tl.static_range(1, N):
        chosen = tl.where(i == j, values[j], chosen)
    return chosen
