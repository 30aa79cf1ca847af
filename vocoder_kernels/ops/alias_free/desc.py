from __future__ import annotations

from dataclasses import dataclass

import torch

TAPS = 12


@dataclass(frozen=True)
class AliasFreeDesc:
    """2x up, ``z + sin(alpha z)^2 * inv_beta``, 2x down, edges replicated, for ``tensors`` tensors.

    ``dtype_in`` is float32 or the compute dtype ``dtype``, which is that of the outputs. With a
    ``mean`` above 1 there is one output, of the mean of so many inputs.
    """

    C: int
    tensors: int
    dtype_in: torch.dtype
    dtype: torch.dtype
    scale: int = 1
    extra: int = 0
    mean: int = 1


def pack_filters(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """The 12-tap filters as one fp32 ``[24]``; the upsampling's gain of 2 goes into its taps."""
    return torch.cat([2.0 * up.flatten().float(), down.flatten().float()]).contiguous()
