"""What the wrappers of the CUDA C++ kernels share: the core, its limits, addresses, streams."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

from .. import native
from ..backends.base import Support
from .support import Target, compute_support

DTYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
STATIC_SHARED_BYTES = 1024
"""At most this much of a kernel's shared memory is not counted by the core's queries."""

RESERVED_BYTES = 1024
"""Shared memory a multiprocessor has beyond what one CTA may use (none on Turing)."""


def core() -> Any:
    """The extension's launches, ``vocoder_kernels._native.cuda_kernels``."""
    return native.extension().cuda_kernels


def built_for(architectures: Sequence[str], arch: int) -> bool:
    """Whether a build for such entries of CMAKE_CUDA_ARCHITECTURES ("86-real", "90-virtual", "80":
    both) runs on ``arch``: machine code within one major version, PTX on anything later."""
    for entry in architectures:
        found = re.match(r"(\d+)[a-z]?(-real|-virtual)?$", entry)
        if found is None:
            continue
        built, kind = int(found.group(1)), found.group(2)
        if kind != "-real" and built <= arch:
            return True
        if kind != "-virtual" and built // 10 == arch // 10 and built <= arch:
            return True
    return False


def core_support(target: Target, dtype: torch.dtype) -> Support:
    """Whether the CUDA core is there, has code for the target and computes in ``dtype``."""
    if target.backend != "cuda":
        return Support(False, f"CUDA C++ kernels run on NVIDIA GPUs, not on {target.backend}")
    if not native.has_cuda():
        return Support(
            False,
            "the CUDA C++ kernels are not in this installation; reinstall vocoder_kernels with "
            "nvcc on PATH",
        )
    if not built_for(core().architectures, target.arch):
        return Support(
            False,
            f"the CUDA C++ kernels were built for {', '.join(core().architectures)}, not for "
            f"compute capability {target.arch // 10}.{target.arch % 10}; reinstall with "
            "VOCODER_KERNELS_CUDA_ARCHS set to it",
        )
    return compute_support(target, dtype)


def tensor_core_support(target: Target, dtype: torch.dtype) -> Support:
    """`core_support` of kernels that multiply in 16 bits."""
    if dtype == torch.float32:
        return Support(False, "CUDA C++ convolutions compute in float16 or bfloat16, not float32")
    return core_support(target, dtype)


def address(tensor: torch.Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def place_of(tensor: torch.Tensor) -> dict[str, int]:
    """Device index and PyTorch's current stream there, as the launches take them."""
    stream = torch.cuda.current_stream(tensor.device)
    return {"device": stream.device_index, "stream": stream.cuda_stream}
