"""Triton kernels of the real vocoders compiled ahead of time for GPUs that are not here: no spills,
shared memory within what a CTA may use, registers for the intended number of CTAs.

A representative part runs by default, all of it with VOCODER_KERNELS_COMPILE_ALL=1 (about 40
minutes on one core).
"""

from __future__ import annotations

import os
from typing import Any

import pytest
import torch

pytest.importorskip("triton")

import aot  # noqa: E402
from layer_shapes import OPS, launch, layers  # noqa: E402

from vocoder_kernels.ops.registry import operation  # noqa: E402
from vocoder_kernels.ops.support import Target  # noqa: E402

ALL = os.environ.get("VOCODER_KERNELS_COMPILE_ALL") == "1"
GFX942 = "gfx942"
MULTIPROCESSORS = {75: 40, 80: 108, 86: 28, 89: 128, 90: 132, 100: 148, 120: 170, GFX942: 304}
REGISTERS = 65536
NUMBERS = {
    "fp16": (torch.float16, "ieee"),
    "bf16": (torch.bfloat16, "ieee"),
    "fp32": (torch.float32, "ieee"),
    "tf32": (torch.float32, "tf32"),
}
FRAMES = (32, 512)


def target_of(arch: Any) -> Target:
    if arch == GFX942:
        return Target("hip", 0, MULTIPROCESSORS[arch], aot.LDS_BYTES)
    return Target("cuda", arch, MULTIPROCESSORS[arch], aot.SHARED_BYTES[arch])


def every_kernel() -> list[tuple[str, str, str]]:
    """(version, layer, numbers) of every kernel that differs from all others."""
    seen, kernels = set(), []
    for numbers, (dtype, precision) in NUMBERS.items():
        for version in ("v4", "v2", "v2proplus", "v3"):
            for name, desc in layers(version, dtype, precision).items():
                if desc not in seen:
                    seen.add(desc)
                    kernels.append((version, name, numbers))
    return kernels


REPRESENTATIVES = (
    ("v4", "head"), ("v4", "up0"), ("v2", "up3 of streams"), ("v4", "C256 first"),
    ("v4", "C256 second"), ("v4", "C128 last"), ("v4", "C16 second"), ("v3", "up1"),
    ("v3", "C384 first"), ("v3", "C192 second"), ("v3", "C768 last"), ("v3", "C48 second"),
    ("v3", "C48 last"), ("v3", "C384 snake"), ("v3", "C24 snake"), ("v4", "tail of streams"),
    ("v3", "tail"), ("v2", "head"), ("v2", "head and vector"),
)  # fmt: skip


def chosen() -> list[tuple[Any, str, str, str, int]]:
    """All combinations, or each representative on each architecture with numbers and window taking
    turns, so that every layer meets every kind of numbers on some architecture."""
    if ALL:
        return [
            (arch, *kernel, frames)
            for arch in MULTIPROCESSORS
            for kernel in every_kernel()
            for frames in FRAMES
        ]
    combinations = []
    for a, arch in enumerate(MULTIPROCESSORS):
        for i, (version, name) in enumerate(REPRESENTATIVES):
            numbers = list(NUMBERS)[(a + i) % len(NUMBERS)]
            if name not in layers(version, *NUMBERS[numbers]):
                numbers = "fp16"
            combinations.append((arch, version, name, numbers, FRAMES[(a + i // 2) % 2]))
    return combinations


@pytest.mark.parametrize("arch, version, name, numbers, frames", chosen())
def test_compiles(arch, version, name, numbers, frames):
    desc = layers(version, *NUMBERS[numbers])[name]
    target, op = target_of(arch), OPS[type(desc)]
    module = operation(op)
    support = module.can_run(desc, target)
    if not support:
        pytest.skip(support.reason)
    reports = aot.compile_launches(
        getattr(module, f"{op}_kernel"),
        lambda: launch(desc, 2, frames, target),
        target.backend,
        arch,
    )
    assert len(reports) == 1
    config = module.choose_config(desc, 2, frames * desc.scale, target)
    for report in reports:
        assert report.spilled == 0, f"{report} with {config}"
        assert report.shared_bytes <= target.shared_bytes, f"{report} with {config}"
        if arch != GFX942:
            assert report.registers * report.threads * intended_ctas(op, config) <= REGISTERS, (
                f"{report} with {config}"
            )


def intended_ctas(op: str, config: Any) -> int:
    """CTAs that a multiprocessor's registers must hold at once."""
    if op in ("alias_free", "tail"):
        return 4
    return 1 if config.BT * config.BN > 128 * 64 else 2
