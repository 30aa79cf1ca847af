"""Profiles of a plan's launches: a few CTAs of each on the emulator, once per configuration."""

from __future__ import annotations

import hashlib
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from modelled_cuda import profile as profile_cuda
from modelled_cuda import shared_ratio
from modelled_launches import (
    Launch,
    Step,
    branch_launch,
    instantiation,
    launches_of,
    ranges_of,
    snake_launches,
)
from modelled_triton import Modeller

from vocoder_kernels.program import Scale

ROOT = Path(__file__).resolve().parents[1]
CTAS_PER_BRANCH = 2
SNAKE_TAIL, PLAIN_TAIL = (192, 26), (256, 0)
"""Threads, and rows that a thread activates, as the core launches the tails of v3 and v4."""


class Profiles:
    """Counters of launches in fp16 by implementation, description and configuration. With a
    ``folder`` they are kept there for later runs, as long as no source changes."""

    def __init__(self, model: Any, folder: Path | None = None) -> None:
        self._model = model
        self._triton = Modeller(model)
        self._cuda: dict[Any, Any] = {}
        self._folder = folder
        self._sources = _sources_digest()

    def of(self, work: Any, config: Any, arch: int) -> Any:
        """Of a step's `Work` as the plan configured it, on sm_80 or, for ``arch`` above, sm_90.

        Dilations of separate convolutions move addresses alone: one profile serves all (modelled
        times differ by under 1%).
        """
        desc = replace(work.desc, scale=1, extra=0)
        if work.choice.op == "residual_conv":
            desc = replace(desc, dilation=(3,) * desc.branches)
        arch = 90 if arch >= 90 and work.choice.name == "triton" else 80
        key = (work.choice.op, work.choice.name, desc, config, arch)
        if key not in self._cuda:
            self._cuda[key] = self._load(key) or self._store(key, self._emulate(*key))
        return self._cuda[key]

    def ctas(self, work: Any, config: Any, frames: int) -> int:
        """CTAs that compute for ``frames`` valid frames; a window's others exit at once."""
        if work.choice.name == "triton":
            return self._triton.ctas(work.desc, frames, config)
        T = Scale(work.desc.scale, work.desc.extra).length(frames)
        return _cuda_ctas(work.choice.op, work.desc, config, T)

    def _emulate(self, op: str, implementation: str, desc: Any, config: Any, arch: int) -> Any:
        if implementation == "triton":
            return self._triton.profile(desc, config, arch)
        launch = _cuda_launch(op, desc, config)
        branches = getattr(desc, "branches", getattr(desc, "tensors", 1))
        return profile_cuda(self._model, launch, arch, CTAS_PER_BRANCH * branches)

    def _path(self, key: Any) -> Path | None:
        digest = hashlib.sha256(f"{self._sources} {key}".encode()).hexdigest()[:24]
        return self._folder / f"{digest}.profile" if self._folder else None

    def _load(self, key: Any) -> Any:
        path = self._path(key)
        return pickle.loads(path.read_bytes()) if path is not None and path.is_file() else None

    def _store(self, key: Any, profile: Any) -> Any:
        path = self._path(key)
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(pickle.dumps(profile))
        return profile


def shared_memory(profile: Any) -> dict[str, float]:
    """Wavefronts against the ideal, of all shared-memory accesses and of ldmatrix alone."""
    ldmatrix = profile.stats["ldmatrix"]
    ideal = ldmatrix["ideal_wavefronts"]
    return {
        "all": shared_ratio([profile]),
        "ldmatrix": ldmatrix["wavefronts"] / ideal if ideal else 1.0,
    }


def _cuda_launch(op: str, desc: Any, config: Any) -> Launch:
    """The launch on a row of a few tiles per branch."""
    if op == "residual_unit":
        return _unit_launch(desc, config)
    if op == "residual_branch":
        return _branch_launch(desc, config)
    if op == "residual_conv":
        return _conv_launch(desc, config)
    if op == "alias_free":
        step = Step("snake", "", desc.C, 0)
        return snake_launches(step, 40 * config.rows, config.rows, desc.dtype_in)[0]
    if op == "tail":
        step = Step("tail", "", desc.C_in, 0, desc.snake)
        return launches_of(step, 4096, _tail_shape(desc))[0]
    raise ValueError(
        f"{op} on the CUDA core: expected a GPU on which Triton runs it (sm_80 or later)"
    )


def _unit_launch(desc: Any, config: Any) -> Launch:
    from references import snake_weights
    from residual_unit_emulated import Branch, prepare, variants

    kernel = variants(desc.C, desc.snake, desc.dtype)[config.index]
    T, vector = 12 * kernel.rows, torch.ones(desc.C)
    branches = [
        Branch(
            torch.zeros(1, T, desc.C),
            torch.zeros(1, T, desc.C),
            [torch.zeros(desc.C, desc.C, k)] * desc.convs,
            [vector] * desc.convs,
            dilation,
            [(vector, vector)] * desc.convs,
        )
        for k, dilation in zip(desc.K, desc.dilation)
    ]
    prepared = prepare(
        kernel, branches, ranges_of(T), slope=desc.slope, filters=snake_weights.filters()
    )
    signature = f"vk::cuda::{kernel.name}(const __grid_constant__ vk::cuda::UnitParams)"
    return Launch(
        instantiation("residual_unit_kernel.cuh", signature),
        "residual_unit_kernel",
        (prepared.grid,),
        kernel.threads,
        [prepared.params],
        prepared.shared_bytes,
        desc.flops(T),
        {str(i): tensor for i, tensor in enumerate(prepared.buffers)},
    )


def _branch_launch(desc: Any, config: Any) -> Launch:
    from residual_branch_emulated import Branch, prepare, variants

    kernel = variants(desc.C, desc.dtype)[config.index]
    T, vector = 12 * kernel.rows, torch.ones(desc.C)
    branches = [
        Branch(
            torch.zeros(1, T, desc.C),
            torch.zeros(1, T, desc.C),
            [[torch.zeros(desc.C, desc.C, k)] * desc.convs] * len(dilation),
            [[vector] * desc.convs] * len(dilation),
            dilation,
        )
        for k, dilation in zip(desc.K, desc.dilation)
    ]
    return branch_launch(prepare(kernel, branches, ranges_of(T), slope=desc.slope), desc.flops(T))


def _conv_launch(desc: Any, config: Any) -> Launch:
    from emulation import C_NAMES, SOURCES, pointer
    from test_conv import Params

    from vocoder_kernels.ops.cuda_conv import pack_fragments

    T, half = 6 * config.rows, desc.dtype
    tensors = {"ranges": ranges_of(T)}
    params = Params(
        slope_out=desc.slope,
        scale_in=1,
        scale_out=1,
        T_in_cap=T,
        T_out_cap=T,
        C_in=desc.C_in,
        C_out=desc.C_out,
        stride=1,
        ranges=pointer(tensors["ranges"]),
    )
    for j, (branch, k, dilation) in enumerate(zip(params.branches, desc.K, desc.dilation)):
        own = {
            "x": torch.zeros(1, T, desc.C_in, dtype=half),
            "weight": pack_fragments(torch.zeros(k, desc.C_in, desc.C_out), half),
            "bias": torch.zeros(desc.C_out),
            "residual": torch.zeros(1, T, desc.C_out) if desc.residual else None,
            "stream": torch.zeros(1, T, desc.C_out) if desc.stream else None,
            "activated": torch.zeros(1, T, desc.C_out, dtype=half) if desc.activated else None,
        }
        for name, tensor in own.items():
            setattr(branch, name, pointer(tensor))
        tensors |= {f"{name} {j}": tensor for name, tensor in own.items() if tensor is not None}
        branch.K, branch.dilation, branch.first_tap = k, dilation, -dilation * (k // 2)
    table = (SOURCES / "conv_entry.cuh").read_text()
    shape = re.findall(r"<T, ActivatedSource, ([\d, ]+)>", table)[config.index]
    signature = (
        f"vk::cuda::conv_kernel<vk::cuda::ConvShape<{C_NAMES[half]}, {shape}>, "
        f"vk::cuda::ActivatedSource<{C_NAMES[half]}>>"
        "(const __grid_constant__ vk::cuda::ConvParams, int)"
    )
    reach = max((k - 1) * d for k, d in zip(desc.K, desc.dilation))
    return Launch(
        instantiation("conv_kernel.cuh", signature),
        "conv_kernel",
        (-(-T // config.rows), -(-desc.C_out // config.columns), desc.branches),
        config.threads,
        [params, 1],
        128 * (config.rows + reach),
        desc.flops(T),
        tensors,
    )


def _cuda_ctas(op: str, desc: Any, config: Any, T: int) -> int:
    if op == "residual_unit":
        from residual_unit_emulated import variants

        kernel = variants(desc.C, desc.snake, desc.dtype)[config.index]
        return sum(-(-T // kernel.tile_rows(k, desc.convs)) for k in desc.K)
    if op == "residual_branch":
        return sum(-(-T // (config.rows - 2 * halo)) for halo in desc.halos)
    if op == "residual_conv":
        return desc.branches * -(-T // config.rows) * -(-desc.C_out // config.columns)
    if op == "alias_free":
        from test_alias_free import THREADS

        return desc.tensors * -(-(-(-T // config.rows) * desc.C) // THREADS)
    return -(-T // _tail_shape(desc)[0])


def _tail_shape(desc: Any) -> tuple[int, int]:
    return SNAKE_TAIL if desc.snake else PLAIN_TAIL


def _sources_digest() -> str:
    """Changes with the kernels and with what launches them here."""
    paths = [
        *(ROOT / "csrc" / "cuda").glob("*.*h"),
        *(ROOT / "vocoder_kernels" / "ops").rglob("*.py"),
        *(ROOT / "tests" / "cuda").glob("residual_*_emulated.py"),
        *(ROOT / "benchmarks").glob("model*.py"),
    ]
    digest = hashlib.sha256(torch.__version__.encode())
    for path in sorted(paths):
        if path.name not in ("cuda_launch.py", "tile.py", "modelled_vocoders.py"):
            digest.update(path.read_bytes())
    return digest.hexdigest()
