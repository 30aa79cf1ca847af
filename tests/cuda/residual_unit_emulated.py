"""Runs one compiled variant of the CUDA residual unit on the PTX emulator, as its launch would."""

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

MAX_BRANCHES = 4
CHANNELS = (16, 24, 32, 48, 64, 96)
FILES = {
    (snake, dtype): f"residual_unit_{'snake' if snake else 'leaky'}_{name}.cu"
    for snake in (False, True)
    for dtype, name in ((torch.float16, "fp16"), (torch.bfloat16, "bf16"))
}


@dataclass(frozen=True)
class Kernel:
    """Template arguments of a compiled variant."""

    dtype: torch.dtype
    C: int
    snake: bool
    warps_m: int
    warps_n: int
    m_tiles: int
    ctas_per_sm: int

    @property
    def name(self) -> str:
        tiles = f"{self.warps_m}, {self.warps_n}, {self.m_tiles}, {self.ctas_per_sm}"
        snake = str(self.snake).lower()
        return f"residual_unit_kernel<{C_NAMES[self.dtype]}, {self.C}, {snake}, {tiles}>"

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
            return -(-rows // 8) * 8
        block = 6 * (self.threads // self.C)
        blocks = -(-rows // block)
        return (blocks + (self.C < 32 and blocks % 4 == 0)) * block

    def shared_bytes(self, rows: int) -> int:
        return rows * ((self.C // 8) | 1) * 16


@cache
def _tiles() -> dict[int, list[tuple[int, ...]]]:
    """By channel count (warps_m, warps_n, m_tiles, ctas_per_sm), as in the table of the sources."""
    text = (SOURCES / "residual_unit_table.h").read_text()
    tile = r"NarrowTile\{(.*?)\}"
    cases = re.findall(rf"case (\d+):\s+return large \? {tile} : {tile};", text)
    return {int(C): [tuple(map(int, t.split(", "))) for t in tiles] for C, *tiles in cases}


def variants(C: int, snake: bool, dtype: torch.dtype = torch.float16) -> list[Kernel]:
    """The compiled kernels, largest tile first."""
    return [Kernel(dtype, C, snake, *tile) for tile in _tiles()[C]]


class _Branch(ctypes.Structure):
    _fields_ = [
        ("x", ctypes.c_void_p),
        ("out", ctypes.c_void_p),
        *((n, ctypes.c_void_p * 2) for n in ("weight", "bias", "alpha", "inv_beta")),
        *((n, ctypes.c_int) for n in ("K", "dilation", "tile_rows", "tiles", "cta_end")),
    ]


class _Params(ctypes.Structure):
    _fields_ = [
        ("branches", _Branch * MAX_BRANCHES),
        ("ranges", ctypes.c_void_p),
        ("T_cap", ctypes.c_int64),
        *((n, ctypes.c_int) for n in ("n_convs", "scale", "extra", "n_rows")),
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
    snakes: Sequence[tuple[torch.Tensor, torch.Tensor]] = ()


@dataclass
class Launch:
    """Arguments of one emulated launch."""

    kernel: Kernel
    grid: int
    shared_bytes: int
    params: _Params
    buffers: list[torch.Tensor]

    def run(self, arch: int, **options: Any) -> Any:
        return kernels(FILES[self.kernel.snake, self.kernel.dtype], arch).launch(
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
    filters: torch.Tensor | None = None,
) -> Launch:
    """``filters``: 24 taps, the upsampling's gain included."""
    B, T_cap, _ = branches[0].x.shape
    n_convs = len(branches[0].weights)
    params = _Params(
        ranges=pointer(ranges), T_cap=T_cap, n_convs=n_convs, scale=scale, extra=extra, slope=slope
    )
    buffers: list[torch.Tensor] = [ranges]
    if filters is not None:
        params.up[:], params.down[:] = filters[:12].tolist(), filters[12:].tolist()
    n_rows = cta_end = 0
    for p, branch in zip(params.branches, branches):
        K = branch.weights[0].shape[2]
        p.x, p.out = pointer(branch.x), pointer(branch.out)
        buffers += [branch.x, branch.out]
        for i in range(n_convs):
            weight = pack_weight(branch.weights[i], kernel.dtype)
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
    return Launch(kernel, cta_end, kernel.shared_bytes(n_rows), params, buffers)
