from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class UpsampleDesc:
    """``conv_transpose(x)``, ``x`` being one compute-dtype tensor (``inputs`` 0: activated already)
    or ``leaky(mean of `inputs` fp32 streams, slope_in)``.

    Writes an fp32 ``stream`` and/or ``activated = leaky(., slope_out)`` in ``dtype``; a slope of
    1.0 is no activation. ``scale`` and ``extra`` are those of the input; the output's follow.
    """

    C_in: int
    C_out: int
    K: int
    stride: int
    padding: int
    dtype: torch.dtype
    inputs: int = 0
    slope_in: float = 1.0
    slope_out: float = 1.0
    bias: bool = True
    stream: bool = True
    activated: bool = False
    scale: int = 1
    extra: int = 0
    precision: str = "ieee"

    @property
    def taps(self) -> int:
        """Input samples that an output sample depends on, at most."""
        return -(-self.K // self.stride)

    @property
    def scale_out(self) -> int:
        return self.scale * self.stride

    @property
    def extra_out(self) -> int:
        return self.extra * self.stride + self.K - self.stride - 2 * self.padding

    def flops(self, samples: int) -> int:
        """For ``samples`` input samples."""
        return 2 * samples * self.K * self.C_in * self.C_out


def pack(weight: torch.Tensor, stride: int, dtype: torch.dtype) -> torch.Tensor:
    """``[C_in, C_out, K]`` to ``[taps, C_in, stride * C_out]``: tap ``j`` of phase ``p`` is
    ``weight[..., p + j * stride]``, zero beyond K."""
    C_in, C_out, K = weight.shape
    taps = -(-K // stride)
    padded = weight.new_zeros(C_in, C_out, taps * stride)
    padded[..., :K] = weight
    phases = padded.view(C_in, C_out, taps, stride).permute(2, 0, 3, 1)
    return phases.reshape(taps, C_in, stride * C_out).to(dtype).contiguous()
