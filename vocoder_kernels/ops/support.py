"""What an operation can run on, and the checks all launches share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ..backends.base import Support

COMPUTE_DTYPES = (torch.float16, torch.bfloat16, torch.float32)
PRECISIONS = ("ieee", "tf32")


@dataclass(frozen=True)
class Target:
    """A GPU as far as launches care: ``arch`` is 10 * major + minor on "cuda", 0 on "hip"."""

    backend: str
    arch: int
    multiprocessors: int
    shared_bytes: int

    @classmethod
    def of(cls, device: torch.device) -> Target:
        """The target of a CUDA or ROCm device of PyTorch."""
        properties = torch.cuda.get_device_properties(device)
        if torch.version.hip:
            return cls("hip", 0, properties.multi_processor_count, 64 * 1024)
        arch = 10 * properties.major + properties.minor
        return cls("cuda", arch, properties.multi_processor_count, _shared_bytes(properties, arch))


def _shared_bytes(properties: Any, arch: int) -> int:
    """Shared memory a CTA may opt in to; PyTorch before 2.5 does not say."""
    known = {75: 64, 80: 163, 87: 163, 90: 227, 100: 227, 103: 227, 110: 227}
    fallback = known.get(arch, 99) * 1024
    return int(getattr(properties, "shared_memory_per_block_optin", fallback))


def compute_support(target: Target, dtype: torch.dtype) -> Support:
    """Whether Triton kernels compute in ``dtype`` on the target."""
    if dtype not in COMPUTE_DTYPES:
        return Support(False, f"GPU kernels compute in float16, bfloat16 or float32, not {dtype}")
    if target.backend == "cuda" and target.arch < 75:
        return Support(
            False,
            "GPU kernels need compute capability 7.5 (Turing) or later, "
            f"this GPU has {target.arch // 10}.{target.arch % 10}",
        )
    if target.backend == "cuda" and target.arch < 80 and dtype == torch.bfloat16:
        return Support(
            False,
            "bfloat16 kernels need compute capability 8.0 (Ampere) or later, this GPU has "
            f"{target.arch // 10}.{target.arch % 10}; use float16",
        )
    return Support(True)


def slope_support(operation: str, slope: float) -> Support:
    """Kernels take LeakyReLU as ``maximum(x, slope * x)``, which is right up to a slope of 1."""
    if slope <= 1.0:
        return Support(True)
    return Support(False, f"{operation}: LeakyReLU slopes above 1 are not supported, got {slope}")


def default_precision() -> str:
    """How float32 convolutions multiply, following PyTorch's own switch for them. Where that has
    an operator-wise form (PyTorch 2.9), reading the old form may raise."""
    conv = getattr(torch.backends.cudnn, "conv", None)
    allowed = torch.backends.cudnn.allow_tf32 if conv is None else conv.fp32_precision == "tf32"
    return "tf32" if allowed else "ieee"


def dot_precision(dtype: torch.dtype, precision: str, target: Target) -> str:
    """``input_precision`` of ``tl.dot``: TF32 only where it was asked for and exists."""
    tensor_cores = target.backend == "cuda" and target.arch >= 80
    return "tf32" if dtype == torch.float32 and precision == "tf32" and tensor_cores else "ieee"


def expect_buffers(
    operation: str, argument: str, buffers: Sequence[torch.Tensor], count: int, channels: int
) -> None:
    """Raise unless ``buffers`` are ``count`` dense ``[B, T_cap, channels]`` of one shape."""
    if len(buffers) != count:
        raise ValueError(f"{operation}: {argument}: expected {count} tensors, got {len(buffers)}")
    for tensor in buffers:
        good = tensor.dim() == 3 and tensor.shape[2] == channels and tensor.is_contiguous()
        if not good or tensor.shape != buffers[0].shape:
            raise ValueError(
                f"{operation}: {argument}: expected contiguous [B, T_cap, {channels}] of equal "
                f"shapes, got shape {list(tensor.shape)} with strides {list(tensor.stride())}"
            )


def expect_shape(
    operation: str, argument: str, tensor: torch.Tensor, shape: Sequence[int], dtype: torch.dtype
) -> None:
    """Raise unless ``tensor`` is dense, of that shape and dtype."""
    if list(tensor.shape) != list(shape) or tensor.dtype != dtype or not tensor.is_contiguous():
        raise ValueError(
            f"{operation}: {argument}: expected contiguous {dtype} {list(shape)}, "
            f"got {tensor.dtype} {list(tensor.shape)} with strides {list(tensor.stride())}"
        )
