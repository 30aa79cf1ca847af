"""What the CUDA compiler says of every CUDA C++ kernel on every architecture of the build."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

SOURCES = Path(__file__).resolve().parents[2] / "csrc" / "cuda"
# Shared memory one CTA may use, by architecture.
SHARED_BYTES = {75: 65536, 80: 166912, 86: 101376, 89: 101376, 90: 232448, 100: 232448, 120: 101376}
REGISTERS = 65536
# Kernels of each source.
KERNELS = {
    "alias_free_launch.cu": 5,
    "conv_bf16.cu": 10,
    "conv_fp16.cu": 10,
    "residual_branch_bf16.cu": 9,
    "residual_branch_fp16.cu": 9,
    "residual_unit_leaky_bf16.cu": 12,
    "residual_unit_leaky_fp16.cu": 12,
    "residual_unit_snake_bf16.cu": 12,
    "residual_unit_snake_fp16.cu": 12,
    "tail_launch.cu": 4,
}
ARCHITECTURES = sorted(SHARED_BYTES)


@cache
def known_architectures() -> tuple[int, ...]:
    if shutil.which("nvcc") is None:
        return ()
    listed = subprocess.run(["nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True)
    return tuple(int(a) for a in re.findall(r"sm_(\d+)\b", listed.stdout))


@cache
def reports(source: str) -> dict[int, dict[str, dict[str, int]]]:
    """By architecture and kernel: registers, bytes of stack, spills and static shared memory."""
    archs = [a for a in ARCHITECTURES if a in known_architectures()]
    command = [
        "nvcc",
        "-std=c++17",
        "-Xptxas",
        "-v",
        "-fatbin",
        "-o",
        "/dev/null",
        str(SOURCES / source),
    ]
    command += [f"-gencode=arch=compute_{a},code=sm_{a}" for a in archs]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    text = subprocess.run(["c++filt"], input=run.stderr, capture_output=True, text=True).stdout
    found: dict[int, dict[str, dict[str, int]]] = {a: {} for a in archs}
    kernel: dict[str, int] = {}
    for line in text.splitlines():
        if entry := re.search(r"entry function '(?:void )?(.*?)\(.*for 'sm_(\d+)'", line):
            name = entry.group(1).replace("vk::cuda::", "")
            kernel = found[int(entry.group(2))].setdefault(name, {})
        elif stack := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line
        ):
            frame, stores, loads = map(int, stack.groups())
            kernel.update(stack=frame, spills=stores + loads)
        elif used := re.search(r"Used (\d+) registers", line):
            shared = re.search(r"(\d+) bytes smem", line)
            kernel.update(
                registers=int(used.group(1)), shared=int(shared.group(1)) if shared else 0
            )
    return found


def launch_shape(name: str) -> tuple[int, int]:
    """Threads, and CTAs per multiprocessor that the registers must allow."""
    arguments = [int(v) for v in re.findall(r"\b(\d+)\b", name.split("<", 1)[1])]
    if name.startswith("conv_kernel"):
        _, columns, _, ctas = arguments[:4]
        return columns, ctas
    if name.startswith(("residual_unit_kernel", "residual_branch_kernel")):
        warps_m, warps_n, _, ctas = arguments[-4:]
        return 32 * warps_m * warps_n, ctas
    if name.startswith("tail_kernel"):
        return 256, 3 if "true" in name else 4  # with a snake, more would spill
    return 128, 6


@pytest.mark.parametrize("arch", ARCHITECTURES)
@pytest.mark.parametrize("source", sorted(KERNELS))
def test_fits_without_spills(source, arch):
    if arch not in known_architectures():
        pytest.skip(f"nvcc that knows sm_{arch} is not on PATH")
    report = reports(source)[arch]
    assert len(report) == KERNELS[source]
    for name, figures in report.items():
        assert figures["spills"] == 0 and figures["stack"] == 0, name
        assert figures["shared"] <= 1024, name
        threads, ctas = launch_shape(name)
        per_warp = -(-figures["registers"] // 8) * 8 * 32
        assert per_warp * (threads // 32) * ctas <= REGISTERS, (name, figures)


def test_every_source_is_listed():
    launched = {p.name for p in SOURCES.glob("*.cu") if "__global__" in included_text(p)}
    without_kernels = {"conv_launch.cu", "residual_branch_launch.cu", "residual_unit_launch.cu"}
    assert launched == set(KERNELS) | without_kernels


def included_text(path: Path) -> str:
    """A source with the headers it includes."""
    text, seen = path.read_text(), set()
    while missing := {n for n in re.findall(r'#include "(\w+\.cuh)"', text) if n not in seen}:
        seen |= missing
        text += "".join((SOURCES / n).read_text() for n in missing)
    return text


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_residual_units_of_real_stages_fit_shared_memory(arch):
    """v2 and v4 (64, 32, 16 channels) and v3 (96, 48, 24 with snakes): K = 11, dilation 5."""
    from residual_unit_emulated import variants

    for C, snake in ((64, False), (32, False), (16, False), (96, True), (48, True), (24, True)):
        needed = [1024 + k.shared_bytes(k.shared_rows(11, 5, 2)) for k in variants(C, snake)]
        assert min(needed) <= SHARED_BYTES[arch], (C, snake, needed)


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_residual_branches_of_real_stages_fit_shared_memory(arch):
    """v2, v4 (32, 16 channels) and v2ProPlus (24): K = 11, dilation 5. Turing holds the smallest
    tile."""
    from residual_branch_emulated import variants

    for C in (32, 24, 16):
        needed = [1024 + k.shared_bytes(25) for k in variants(C)]
        assert (max if arch >= 80 else min)(needed) <= SHARED_BYTES[arch], (C, needed)
