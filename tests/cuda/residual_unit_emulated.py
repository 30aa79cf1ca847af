"""Runs one compiled variant of the CUDA residual unit on the PTX emulator, as its launch would."""

from __future__ import annotations

import ctypes
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import List, Optional, Sequence, Tuple

import torch

from vocoder_kernels.ops.residual_unit.pack import pack_weight

CSRC = Path(__file__).resolve().parents[2] / "csrc" / "cuda"
CPP_TYPE = {torch.float16: "__half", torch.bfloat16: "__nv_bfloat16"}
MAX_BRANCHES = 4


@dataclass(frozen=True)
class Kernel:
    """Template arguments as the compiler took them from the table of tile shapes."""

    name: str
    C: int
    snake: bool
    warps_m: int
    warps_n: int
    m_tiles: int
    ctas_per_sm: int

    @property
    def rows(self) -> int:
        return 16 * self.warps_m * self.m_tiles

    @property
    def threads(self) -> int:
        return 32 * self.warps_m * self.warps_n

    @property
    def act_halo(self) -> int:
        return 5 if self.snake else 0

    def tile_rows(self, K: int, n_convs: int) -> int:
        return self.rows - 2 * (((K - 1) // 2 + self.act_halo) if n_convs == 2 else 0)

    def shared_rows(self, K: int, dilation: int, n_convs: int) -> int:
        second = self.act_halo + K - 1 if n_convs == 2 else 0
        rows = self.rows + max(dilation * (K - 1), second)
        if not self.snake:
            return rows
        block = 6 * (self.threads // self.C)
        return -(-rows // block) * block

    def shared_bytes(self, rows: int) -> int:
        return rows * ((self.C // 8) | 1) * 16


def source(C: int, snake: bool, dtype: torch.dtype, variant: int, tiles: str = "") -> str:
    """Explicit instantiation of one variant, or of given tile template arguments."""
    headers = b"".join(p.read_bytes() for p in sorted(CSRC.glob("*.*h")))
    digest = hashlib.sha256(headers).hexdigest()
    table = f"unit_tiles({C}, {str(snake).lower()}, {variant})"
    arguments = tiles or ", ".join(
        f"{table}.{field}" for field in ("warps_m", "warps_n", "m_tiles", "ctas_per_sm")
    )
    return (
        f"// headers {digest}\n"
        '#include "residual_unit_kernel.cuh"\n#include "residual_unit_table.h"\n'
        "using namespace vk::cuda;\n"
        f"template __global__ void vk::cuda::residual_unit_kernel<{CPP_TYPE[dtype]}, {C}, "
        f"{str(snake).lower()}, {arguments}>(const __grid_constant__ UnitParams);\n"
    )


def parse_name(name: str) -> Kernel:
    C, snake, *tiles = (int(v) for v in re.findall(r"L[ib](\d+)E", name))
    return Kernel(name, C, bool(snake), *tiles)


FLAGS = ["-std=c++17", "-I", str(CSRC)]


class _Branch(ctypes.Structure):
    _fields_ = [
        ("x", ctypes.c_uint64),
        ("out", ctypes.c_uint64),
        ("weight", ctypes.c_uint64 * 2),
        ("bias", ctypes.c_uint64 * 2),
        ("alpha", ctypes.c_uint64 * 2),
        ("inv_beta", ctypes.c_uint64 * 2),
        ("K", ctypes.c_int),
        ("dilation", ctypes.c_int),
        ("tile_rows", ctypes.c_int),
        ("tiles", ctypes.c_int),
        ("cta_end", ctypes.c_int),
    ]


class _Params(ctypes.Structure):
    _fields_ = [
        ("branch", _Branch * MAX_BRANCHES),
        ("ranges", ctypes.c_uint64),
        ("T_cap", ctypes.c_int64),
        ("n_convs", ctypes.c_int),
        ("scale", ctypes.c_int),
        ("extra", ctypes.c_int),
        ("n_rows", ctypes.c_int),
        ("slope", ctypes.c_float),
        ("up", ctypes.c_float * 12),
        ("down", ctypes.c_float * 12),
    ]


@dataclass
class Branch:
    """One branch's tensors: x and out ``[B, T_cap, C]`` fp32, weights ``[C, C, K]``."""

    x: torch.Tensor
    out: torch.Tensor
    weights: Sequence[torch.Tensor]
    biases: Sequence[torch.Tensor]
    dilation: int
    snakes: Sequence[Tuple[torch.Tensor, torch.Tensor]] = ()


@dataclass
class Launch:
    """Arguments of one emulated launch."""

    grid: int
    shared_bytes: int
    params: _Params
    buffers: List[torch.Tensor]


def prepare(
    kernel: Kernel,
    branches: Sequence[Branch],
    dtype: torch.dtype,
    ranges: torch.Tensor,
    scale: int = 1,
    extra: int = 0,
    slope: float = 0.1,
    filters: Optional[Tuple[torch.Tensor, torch.Tensor]] = None,
) -> Launch:
    B, T_cap, _ = branches[0].x.shape
    n_convs = len(branches[0].weights)
    params = _Params(
        ranges=ranges.data_ptr(),
        T_cap=T_cap,
        n_convs=n_convs,
        scale=scale,
        extra=extra,
        slope=slope,
    )
    buffers: List[torch.Tensor] = [ranges]
    if filters is not None:
        params.up[:] = (2 * filters[0]).tolist()
        params.down[:] = filters[1].tolist()
    n_rows = cta_end = 0
    for j, branch in enumerate(branches):
        K = branch.weights[0].shape[2]
        p = params.branch[j]
        p.x, p.out = branch.x.data_ptr(), branch.out.data_ptr()
        buffers += [branch.x, branch.out]
        for i in range(n_convs):
            weight = pack_weight(branch.weights[i], dtype)
            bias = branch.biases[i].float().contiguous()
            p.weight[i], p.bias[i] = weight.data_ptr(), bias.data_ptr()
            buffers += [weight, bias]
            if kernel.snake:
                alpha, inv_beta = (v.float().contiguous() for v in branch.snakes[i])
                p.alpha[i], p.inv_beta[i] = alpha.data_ptr(), inv_beta.data_ptr()
                buffers += [alpha, inv_beta]
        p.K, p.dilation = K, branch.dilation
        p.tile_rows = kernel.tile_rows(K, n_convs)
        p.tiles = -(-T_cap // p.tile_rows)
        cta_end += p.tiles * B
        p.cta_end = cta_end
        n_rows = max(n_rows, kernel.shared_rows(K, branch.dilation, n_convs))
    params.n_rows = n_rows
    return Launch(cta_end, kernel.shared_bytes(n_rows), params, buffers)
