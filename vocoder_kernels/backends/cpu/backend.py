"""The CPU backend: what it can run, and its entry."""

from __future__ import annotations

import torch

from ... import native
from ...options import Options
from ...program import Vocoder
from ..base import Backend, Support
from .executable import CpuExecutable

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class CpuBackend:
    name = "cpu"

    def can_run(self, vocoder: Vocoder, device: torch.device, dtype: torch.dtype) -> Support:
        if dtype not in DTYPES:
            known = ", ".join(str(d).replace("torch.", "") for d in DTYPES)
            return Support(False, f"CPU kernels serve {known}, not {dtype}")
        even = next((c for c in vocoder.length_preserving if c.K % 2 == 0), None)
        if even is not None:
            return Support(False, f"CPU kernels need odd kernel sizes; {even.name} has {even.K}")
        if vocoder.conv_post.dilation != 1:
            found = f"{vocoder.conv_post.name} has {vocoder.conv_post.dilation}"
            return Support(False, f"CPU kernels need a last layer without dilation; {found}")
        try:
            native.extension()
        except native.NativeUnavailable as missing:
            return Support(False, str(missing))
        return Support(True)

    def compile(
        self,
        vocoder: Vocoder,
        weights: dict[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
        options: Options,
    ) -> CpuExecutable:
        return CpuExecutable(vocoder, weights, dtype, options)


BACKEND: Backend = CpuBackend()
