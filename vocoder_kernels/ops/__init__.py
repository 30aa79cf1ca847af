"""GPU operations. A folder each: ``desc`` (shapes), ``reference`` (float64-capable PyTorch),
``triton_kernel`` (device code) and ``launch`` (configuration, ``can_run``, launch).

Common to all: buffers are dense ``[B, T_cap, C]``; ``ranges: int32 [B, 2]`` holds each row's valid
frames ``[start, end)``, so a layer's valid samples are ``[start * scale, end * scale + extra)``.
Samples outside are never read (they count as zeros, for ``alias_free`` as the edge) nor written.
A launch allocates nothing, does not synchronise and can be captured in a CUDA graph.
"""

from __future__ import annotations
