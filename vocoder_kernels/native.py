"""The native core. The one place that imports the extension, and says why it is missing.

Addresses are integers, 0 for none; slots are integers, -1 for none; tensors are fp32, blocked
``[ceil(C / V)][T][V]`` with ``V = width(isa)``.
"""

from __future__ import annotations

from collections.abc import Sequence as ListLike
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any, Protocol

import torch  # loads libgomp.so.1, by whose name the extension then finds the same OpenMP runtime

NO_SLOT = -1
BY_COST, DIRECT = 0, 1
"""Algorithms of a convolution: the native core's own choice, or none that transforms weights."""
CHUNK_BY_COST = -1
"""Rows per chunk of a stage: the native core's own choice."""


class NativeUnavailable(ImportError):
    """The extension is not there; the message says why and what to do."""


class NativeSequence(Protocol):
    """Packed layers run in one call; ``add_*`` copy the weights. Raises ``ValueError`` for sizes
    that do not fit."""

    def add_head(
        self,
        *,
        raw: int,
        act: int,
        slope: float,
        C_in: int,
        C_out: int,
        K: int,
        dilation: int,
        w: int,
        bias: int,
    ) -> None: ...

    def add_upsample(
        self,
        *,
        x: int,
        raw: int,
        act: int,
        slope: float,
        C_in: int,
        C_out: int,
        K: int,
        stride: int,
        padding: int,
        w: int,
        bias: int,
    ) -> None: ...

    def add_conv(
        self,
        *,
        x: int,
        residual: int,
        addend: int,
        scale: float,
        raw: int,
        act: int,
        slope: float,
        C_in: int,
        C_out: int,
        K: int,
        dilation: int,
        w: int,
        bias: int,
        algorithm: int,
    ) -> None:
        """``v = x * w + bias + residual``; ``v = (v + addend) * scale`` with an addend; raw is v,
        act is ``max(v, slope * v)``. algorithm: 0 by cost, 1 direct, 4, 6, 8, 16 or 32 a
        transform."""

    def add_snake(
        self, *, x: int, y: int, C: int, alpha: int, inv_beta: int, up: int, down: int
    ) -> None: ...

    def add_stage(
        self,
        *,
        x: int,
        x_act: int,
        raw: int,
        act: int,
        next_slope: float,
        C: int,
        slope: float,
        branches: ListLike[ListLike[ListLike[tuple[int, int, int, int, int, int]]]],
        up: int,
        down: int,
        algorithm: int,
        chunk_rows: int,
    ) -> None:
        """branches[j][unit][layer] is ``(K, dilation, w, bias, alpha, inv_beta)``; alpha and
        inv_beta are 0 for LeakyReLU. chunk_rows: -1 by cost, 0 whole layers."""

    def add_tail(self, *, x: int, C: int, K: int, w: int, bias: float, clamp: bool) -> None: ...

    def run(
        self,
        *,
        x: int,
        stride_c: int,
        stride_t: int,
        T: int,
        cond: int,
        cond_size: int,
        pool: int,
        pool_bytes: int,
        offsets_bytes: ListLike[int],
        t_strides: ListLike[int],
        out: int,
        out_size: int,
        threads: int,
        timed: bool,
    ) -> None:
        """Without the GIL. Slot i lies at ``pool + offsets_bytes[i]``, its blocks ``t_strides[i]``
        rows apart."""

    def prepare(self, T: int, threads: int) -> None: ...

    def out_length(self, T: int) -> int: ...

    def steps(self) -> list[str]: ...

    def timings_us(self) -> list[float]:
        """Microseconds per step of the last run, empty unless it was ``timed``."""

    def packed_bytes(self) -> int: ...

    def workspace_bytes(self) -> int: ...


@cache
def _load() -> tuple[ModuleType | None, str]:
    try:
        from . import _native
    except ImportError as error:
        if find_spec(f"{__package__}._native") is None:
            return None, "they were left out of this installation"
        return None, str(error)
    return _native, ""


def extension() -> ModuleType:
    """``vocoder_kernels._native``. Raises `NativeUnavailable`."""
    module, reason = _load()
    if module is None:
        raise NativeUnavailable(
            f"the native kernels cannot be loaded ({reason}); reinstall vocoder_kernels with a "
            "C++17 compiler at hand and without VOCODER_KERNELS_NATIVE=off"
        )
    return module


def available() -> bool:
    return _load()[0] is not None


def isas() -> tuple[str, ...]:
    """Instruction sets of this processor and build, best first."""
    return tuple(extension().isas())


def best_isa(wanted: str = "auto") -> str:
    """``wanted``, or the best one for "auto". Raises ``ValueError`` for one that is not there."""
    found = isas()
    if wanted == "auto":
        return found[0]
    if wanted not in found:
        raise ValueError(f"isa: expected auto or one of {', '.join(found)}, got {wanted!r}")
    return wanted


def width(isa: str) -> int:
    """Channels per block of the layout."""
    return int(extension().width(isa))


def sequence(isa: str) -> NativeSequence:
    result: Any = extension().Sequence(isa)
    return result


def has_cuda() -> bool:
    """Whether the CUDA kernels were built in."""
    return available() and bool(extension().cuda)


__all__ = [
    "BY_COST",
    "CHUNK_BY_COST",
    "DIRECT",
    "NO_SLOT",
    "NativeSequence",
    "NativeUnavailable",
    "available",
    "best_isa",
    "extension",
    "has_cuda",
    "isas",
    "sequence",
    "torch",
    "width",
]
