"""CUDA C++ kernels on the PTX emulator: compile once per architecture, launch by readable name."""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "csrc" / "cuda"
DTYPE_CODES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}
C_NAMES = {torch.float32: "float", torch.float16: "__half", torch.bfloat16: "__nv_bfloat16"}


def find_gpusim() -> Any:
    """The emulator package, or a skip naming where it was sought."""
    folder = Path(os.environ.get("VOCODER_KERNELS_GPUSIM", ""))
    if shutil.which("nvcc") is None:
        pytest.skip("nvcc is not on PATH")
    if not (folder / "__init__.py").exists():
        pytest.skip(f"no PTX emulator at {folder} (set VOCODER_KERNELS_GPUSIM)")
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    import gpusim

    return gpusim


class Kernels:
    """The kernels of one .cu file compiled for one architecture."""

    def __init__(self, source: str, arch: int) -> None:
        gpusim = find_gpusim()
        text = f'#include "{SOURCES / source}"\n// {fingerprint(source)}\n'
        ptx = gpusim.nvcc_ptx(text, arch=arch, flags=["-std=c++17", "-I", str(SOURCES)])
        self.module = gpusim.Module(ptx)
        names = list(self.module.kernels)
        shown = subprocess.run(
            ["c++filt"], input="\n".join(names), capture_output=True, text=True, check=True
        ).stdout.splitlines()
        self.names = {re.sub(r"\(.*$|^void |vk::cuda::", "", s): n for s, n in zip(shown, names)}

    def launch(
        self, name: str, grid: Sequence[int], block: int, params: Any, **options: Any
    ) -> Any:
        """`name` as in C++, e.g. ``conv_kernel<__half, 64>``; params: a ctypes structure."""
        matches = [n for shown, n in self.names.items() if shown.startswith(name)]
        if len(matches) != 1:
            raise KeyError(f"{name}: expected one kernel, got {matches} among {list(self.names)}")
        return self.module.launch(
            matches[0],
            tuple(grid),
            (block,),
            params if isinstance(params, list) else [params],
            **options,
        )


@functools.cache
def fingerprint(source: str) -> str:
    """Changes with a source or any header it includes, so that cached PTX is never stale."""
    import hashlib

    text, seen = (SOURCES / source).read_text(), {source}
    while missing := set(re.findall(r'#include "([\w.]+)"', text)) - seen:
        seen |= missing
        text += "".join((SOURCES / name).read_text() for name in sorted(missing))
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def kernels(source: str, arch: int) -> Kernels:
    return Kernels(source, arch)


def pointer(tensor: torch.Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


def ranges_tensor(ranges: Sequence[tuple[int, int]]) -> torch.Tensor:
    return torch.tensor(ranges, dtype=torch.int32)


def poison(shape: Sequence[int], dtype: torch.dtype) -> torch.Tensor:
    return torch.full(tuple(shape), float("nan"), dtype=dtype)


def place(rows: Sequence[torch.Tensor], firsts: Sequence[int], T_cap: int) -> torch.Tensor:
    """Rows ``[T, C]`` at their valid places in a NaN tensor ``[B, T_cap, C]``."""
    out = poison((len(rows), T_cap, rows[0].shape[1]), rows[0].dtype)
    for b, (row, first) in enumerate(zip(rows, firsts)):
        out[b, first : first + row.shape[0]] = row
    return out
