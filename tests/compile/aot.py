"""Compiles what a launch would launch, for a GPU that is not there, and reads the report."""

from __future__ import annotations

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import torch
import triton
from triton.backends.compiler import GPUTarget

# Shared memory one CTA may use, and registers of a multiprocessor, by architecture.
SHARED_BYTES = {75: 65536, 80: 166912, 86: 101376, 89: 101376, 90: 232448, 100: 232448, 120: 101376}
LDS_BYTES = 65536
TOOLS = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"


@dataclass(frozen=True)
class Report:
    """What one kernel needs of a multiprocessor; ``spilled``: bytes or registers in memory."""

    kernel: str
    registers: int
    spilled: int
    shared_bytes: int
    threads: int


class _Utils:
    def __init__(self, arch: Any) -> None:
        self.shared = SHARED_BYTES.get(arch, LDS_BYTES)

    def get_device_properties(self, device: int) -> dict[str, int]:
        clocks = {"sm_clock_rate": 1, "mem_clock_rate": 1, "mem_bus_width": 1}
        sizes = {"max_num_regs": 65536, "multiprocessor_count": 100, "warpSize": 32}
        return {"max_shared_mem": self.shared, **sizes, **clocks}

    def load_binary(self, name: str, binary: bytes, shared: int, device: int) -> tuple:
        return None, None, 0, 0, 1024

    def unload_module(self, module: Any) -> None:
        pass


class _Driver:
    """Answers Triton's questions about a device; launching does nothing."""

    def __init__(self, backend: str, arch: Any) -> None:
        self.target = GPUTarget(backend, arch, 64 if backend == "hip" else 32)
        self.number = 2000 + (arch if isinstance(arch, int) else 0)
        self.utils = _Utils(arch)

    def launcher_cls(self, src: Any, metadata: Any) -> Callable[..., None]:
        return lambda *args: None

    def get_current_device(self) -> int:
        return self.number

    def get_current_stream(self, device: Any = None) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind


@contextlib.contextmanager
def _driving(driver: _Driver) -> Iterator[None]:
    config = triton.runtime.driver
    before = dict(vars(config))
    config.set_active(driver)
    try:
        yield
    finally:
        vars(config).update(before)


def compile_launches(
    kernel: Any, launches: Callable[[], None], backend: str, arch: Any
) -> list[Report]:
    """A report of every specialisation of ``kernel`` that ``launches``, on "meta" tensors, use."""
    driver = _Driver(backend, arch)
    caches = kernel.device_caches
    caches.pop(driver.number, None)
    with _driving(driver):
        launches()
        compiled = list(caches.pop(driver.number)[0].values())
    return [_amd_report(k) if backend == "hip" else _nvidia_report(k) for k in compiled]


def _nvidia_report(compiled: Any) -> Report:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as cubin:
        cubin.write(compiled.asm["cubin"])
        cubin.flush()
        command = [str(TOOLS / "cuobjdump"), "-res-usage", cubin.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = {k: int(v) for k, v in re.findall(r"(REG|STACK|LOCAL):(\d+)", text)}
    metadata = compiled.metadata
    spilled = found["STACK"] + found["LOCAL"]
    return Report(metadata.name, found["REG"], spilled, metadata.shared, 32 * metadata.num_warps)


def _amd_report(compiled: Any) -> Report:
    text = compiled.asm["amdgcn"]
    found = {k: int(v) for k, v in re.findall(r"\.(\w+):\s+(\d+)\b", text)}
    spilled = found["vgpr_spill_count"] + found["private_segment_fixed_size"]
    metadata = compiled.metadata
    registers = found["vgpr_count"]
    return Report(metadata.name, registers, spilled, metadata.shared, 64 * metadata.num_warps)
