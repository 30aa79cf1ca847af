"""Vocoders on NVIDIA and AMD GPUs: lowered to a few fused launches, planned into one static pool,
and replayed as one CUDA graph per window.

`lower` and `plan` need no device; `executor` runs what they describe.
"""

from __future__ import annotations
