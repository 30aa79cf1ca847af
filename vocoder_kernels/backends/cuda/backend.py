"""The GPU behind the `Backend` interface."""

from __future__ import annotations

import torch

from ...ops.support import Target
from ...options import Options
from ...program import Vocoder
from ..base import Executable, Support
from .choose import Unsupported
from .executor import CudaExecutable, programs


class CudaBackend:
    """Fused Triton and CUDA C++ kernels in the model's own dtype."""

    name = "cuda"

    def can_run(self, vocoder: Vocoder, device: torch.device, dtype: torch.dtype) -> Support:
        if not torch.cuda.is_available():
            return Support(False, "PyTorch sees no CUDA device")
        try:
            programs(vocoder, dtype, Target.of(device))
        except Unsupported as refusal:
            return Support(False, str(refusal))
        return Support(True)

    def compile(
        self,
        vocoder: Vocoder,
        weights: dict[str, torch.Tensor],
        device: torch.device,
        dtype: torch.dtype,
        options: Options,
    ) -> Executable:
        return CudaExecutable(vocoder, weights, device, dtype, options)


BACKEND = CudaBackend()
