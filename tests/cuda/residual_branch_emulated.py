"""Runs one compiled variant of whole residual branches on the PTX emulator, as its launch would."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from emulation import C_NAMES, SOURCES, kernels, pointer

from vocoder_kernels.ops.residual_unit.pack import pack_weight

MAX_BRANCHES, MAX_UNITS = 4, 4
CHANNELS = (16, 24, 32)
FILES = {torch.float16: "residual_branch_fp16.cu", torch.bfloat16: "residual_branch_bf16.cu"}


@dataclass(frozen=True)
class Kernel:
    """Template arguments of a compiled variant."""

    dtype: torch.dtype
    C: int
    warps_m: int
    warps_n: int
    m_tiles: int
    ctas_per_sm: int

    @property
    def name(self) -> str:
        tiles = f"{self.warps_m}, {self.warps_n}, {self.m_tiles}, {self.ctas_per_sm}"
        return f"residual_branch_kernel<{C_NAMES[self.dtype]}, {self.C}, {tiles}>"

    @property
    def rows(self) -> int:
        return 16 * self.warps_m * self.m_tiles

    @property
    def threads(self) -> int:
        return 32 * self.warps_m * self.warps_n

    def tile_rows(self, K: int, dilations: Sequence[int], n_convs: int) -> int:
        return self.rows - 2 * halo(K, dilations, n_convs)

    def shared_bytes(self, margin: int) -> int:
        return (self.rows + 2 * margin) * ((self.C // 8) | 1) * 16


def halo(K: int, dilations: Sequence[int], n_convs: int) -> int:
    """Samples each side that a result depends on."""
    return sum(d + n_convs - 1 for d in dilations) * (K - 1) // 2


@cache
def _tiles() -> dict[int, list[tuple[int, ...]]]:
    """By channel count (warps_m, warps_n, m_tiles, ctas_per_sm), as in the table of the sources."""
    text = (SOURCES / "residual_branch_table.h").read_text()
    rows = re.findall(r"k(\d+)\[kBranchTiles\] = \{(\{.*?\})\};", text)
    return {
        int(C): [tuple(map(int, tile.split(","))) for tile in re.findall(r"\{(.*?)\}", tiles)]
        for C, tiles in rows
    }


def variants(C: int, dtype: torch.dtype = torch.float16) -> list[Kernel]:
    """The compiled kernels, largest tile first."""
    return [Kernel(dtype, C, *tile) for tile in _tiles()[C]]


class _Branch(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in ("x", "out", "weight", "bias")),
        ("K", ctypes.c_int),
        ("units", ctypes.c_int),
        ("dilation", ctypes.c_int * MAX_UNITS),
        *((n, ctypes.c_int) for n in ("tile_rows", "halo", "tiles", "cta_end")),
    ]


class _Params(ctypes.Structure):
    _fields_ = [
        ("branches", _Branch * MAX_BRANCHES),
        ("ranges", ctypes.c_void_p),
        ("T_cap", ctypes.c_int64),
        *((n, ctypes.c_int) for n in ("n_convs", "scale", "extra", "margin")),
        ("slope", ctypes.c_float),
    ]


@dataclass
class Branch:
    """One branch's tensors: x and out ``[B, T_cap, C]`` fp32; of unit i weights ``[C, C, K]`` and
    biases ``[C]`` of its convolutions, and the dilation of the first."""

    x: torch.Tensor
    out: torch.Tensor
    weights: Sequence[Sequence[torch.Tensor]]
    biases: Sequence[Sequence[torch.Tensor]]
    dilations: Sequence[int]


@dataclass
class Launch:
    """Arguments of one emulated launch."""

    kernel: Kernel
    grid: int
    shared_bytes: int
    params: _Params
    buffers: list[torch.Tensor]

    def run(self, arch: int, **options: Any) -> Any:
        return kernels(FILES[self.kernel.dtype], arch).launch(
            self.kernel.name, (self.grid,), self.kernel.threads, self.params,
            shared=self.shared_bytes, buffers=self.buffers, **options,
        )  # fmt: skip


def prepare(
    kernel: Kernel,
    branches: Sequence[Branch],
    ranges: torch.Tensor,
    scale: int = 1,
    extra: int = 0,
    slope: float = 0.1,
) -> Launch:
    B, T_cap, _ = branches[0].x.shape
    n_convs = len(branches[0].weights[0])
    params = _Params(
        ranges=pointer(ranges), T_cap=T_cap, n_convs=n_convs, scale=scale, extra=extra, slope=slope
    )
    buffers: list[torch.Tensor] = [ranges]
    margin = cta_end = 0
    for p, branch in zip(params.branches, branches):
        K = branch.weights[0][0].shape[2]
        weight = torch.cat([pack_weight(w, kernel.dtype) for unit in branch.weights for w in unit])
        bias = torch.stack([b.float() for unit in branch.biases for b in unit])
        p.x, p.out = pointer(branch.x), pointer(branch.out)
        p.weight, p.bias = pointer(weight), pointer(bias)
        buffers += [branch.x, branch.out, weight, bias]
        p.K, p.units = K, len(branch.weights)
        p.dilation[: p.units] = branch.dilations
        p.halo = halo(K, branch.dilations, n_convs)
        p.tile_rows = kernel.tile_rows(K, branch.dilations, n_convs)
        p.tiles = -(-T_cap // p.tile_rows)
        cta_end += p.tiles * B
        p.cta_end = cta_end
        margin = max(margin, max(branch.dilations) * (K - 1) // 2)
    params.margin = margin
    return Launch(kernel, cta_end, kernel.shared_bytes(margin), params, buffers)
