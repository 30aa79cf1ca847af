"""A vocoder packed for the native core, run window by window over one pool."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from functools import lru_cache

import torch

from ... import native
from ...options import Options
from ...program import Vocoder
from ...runtime.window_times import HostClock, WindowTime
from ...runtime.windows import Window, plan_windows
from .lower import Program, Weights, lower
from .plan import Plan, plan

CHUNK_FRAMES = 512
"""Frames a window keeps unless told otherwise: under 5% of halo for HiFi-GAN, 15% for BigVGAN, and
tensors that stay below 20 MiB each."""
PLANS_KEPT = 256


class CpuExecutable:
    """Every row is cut into windows by its own length alone; each window runs as an utterance of
    its own, and only what its halo does not reach is kept. Computes in float32 whatever the
    model's dtype, which is never less exact than eager."""

    def __init__(
        self, vocoder: Vocoder, weights: Mapping[str, torch.Tensor], dtype: torch.dtype,
        options: Options,
    ):  # fmt: skip
        self._vocoder = vocoder
        self._dtype = dtype
        self._isa = native.best_isa(options.isa)
        self._threads = options.threads
        self._chunk_frames = options.chunk_frames or CHUNK_FRAMES
        self._halo = vocoder.receptive_field
        self._packed_mib = options.packed_mib
        self._program = lower(vocoder)
        self._plan = lru_cache(PLANS_KEPT)(self._new_plan)
        self._pool = torch.empty(0)
        self._audio = torch.empty(0)
        self._windows = 0
        self._clock = HostClock(self._chunk_frames + 2 * self._halo)
        self.update(weights)

    def update(self, weights: Mapping[str, torch.Tensor]) -> None:
        self._sequence: native.NativeSequence | None = None  # freed before the new one is packed
        kept = Weights(weights)
        self._sequence = self._pack(kept)
        cond = self._vocoder.cond
        self._cond = None if cond is None else kept.condition(cond.name)

    def _pack(self, weights: Weights) -> native.NativeSequence:
        """Within ``packed_mib`` if direct kernels, whose weights are the smallest, allow it."""
        if self._packed_mib is None:
            return pack(self._program, weights, self._isa)
        frames = self._chunk_frames + 2 * self._halo
        threads = self._threads or torch.get_num_threads()
        for direct in range(len(self._vocoder.stages) + 1):
            self._program = lower(self._vocoder, direct)
            sequence = pack(self._program, weights, self._isa)
            sequence.prepare(frames, threads)
            if sequence.packed_bytes() <= self._packed_mib * 2**20:
                break
        return sequence

    def run(
        self,
        x: torch.Tensor,
        g: torch.Tensor | None,
        lengths: Sequence[int],
        out: torch.Tensor,
    ) -> None:
        threads = self._threads or torch.get_num_threads()
        conditions = self._conditions(g)
        for row, frames in enumerate(lengths):
            condition = None if conditions is None else conditions[row]
            windows = plan_windows(frames, self._chunk_frames, self._halo)
            for window in windows:
                self._run_window(x[row], condition, window, frames, out[row, 0], threads)

    def _conditions(self, g: torch.Tensor | None) -> torch.Tensor | None:
        """``g: [B, gin, 1]`` to the head's addend ``[B, C]``; the same bits in any batch."""
        if g is None or self._cond is None:
            return None
        weight, bias = self._cond
        rows = [weight @ row for row in g[:, :, 0].float()]
        addend = torch.stack(rows)
        return addend if bias is None else addend + bias

    def _run_window(
        self,
        x: torch.Tensor,
        condition: torch.Tensor | None,
        window: Window,
        frames: int,
        out: torch.Tensor,
        threads: int,
    ) -> None:
        """``x: [C_in, T]``, ``out: [L]`` of one row of ``frames`` frames."""
        hop = self._vocoder.hop_length
        samples = self._vocoder.length(window.frames)
        first = (window.keep_start - window.read_start) * hop
        last = samples if window.keep_end == frames else (window.keep_end - window.read_start) * hop
        begin = window.keep_start * hop
        kept = out[begin : begin + last - first]
        # Written in place where the whole window is kept and the memory is as the kernels write it.
        direct = first == 0 and last == samples and out.dtype == torch.float32
        audio = kept if direct and kept.is_contiguous() else self._scratch(samples)
        frames_read = x[:, window.read_start : window.read_end].float()
        start = time.perf_counter()
        self._run_sequence(frames_read, condition, audio, threads)
        self._clock.add(window.frames, time.perf_counter() - start)
        if audio is not kept:
            kept.copy_(audio[first:last])
        self._windows += 1

    def _run_sequence(
        self,
        x: torch.Tensor,
        condition: torch.Tensor | None,
        audio: torch.Tensor,
        threads: int,
        timed: bool = False,
    ) -> None:
        assert self._sequence is not None, "released"
        where = self._plan(x.shape[1])
        self._reserve(where)
        self._sequence.run(
            x=x.data_ptr(),
            stride_c=x.stride(0),
            stride_t=x.stride(1),
            T=x.shape[1],
            cond=0 if condition is None else condition.data_ptr(),
            cond_size=0 if condition is None else condition.numel(),
            pool=self._pool.data_ptr(),
            pool_bytes=self._pool.nbytes,
            offsets_bytes=where.offsets_bytes,
            t_strides=where.t_strides,
            out=audio.data_ptr(),
            out_size=audio.numel(),
            threads=threads,
            timed=timed,
        )

    def _new_plan(self, frames: int) -> Plan:
        return plan(self._program, frames, native.width(self._isa))

    def _reserve(self, where: Plan) -> None:
        if self._pool.nbytes < where.pool_bytes:
            self._pool = torch.empty(0)  # freed before the larger one is taken
            self._pool = torch.empty(-(-where.pool_bytes // 4))

    def _scratch(self, samples: int) -> torch.Tensor:
        if self._audio.numel() < samples:
            self._audio = torch.empty(samples)
        return self._audio[:samples]

    def warmup(self, frames: int, batch: int) -> None:
        assert self._sequence is not None, "released"
        threads = self._threads or torch.get_num_threads()
        for window in plan_windows(frames, self._chunk_frames, self._halo):
            self._reserve(self._plan(window.frames))
            self._sequence.prepare(window.frames, threads)

    def release(self) -> None:
        self._sequence = None
        self._pool = self._audio = torch.empty(0)
        self._cond = None

    def statistics(self) -> dict[str, float]:
        sequence = self._sequence
        return {
            "windows": self._windows,
            "pool_bytes": self._pool.nbytes,
            "packed_bytes": sequence.packed_bytes() if sequence else 0,
            "workspace_bytes": sequence.workspace_bytes() if sequence else 0,
        }

    def window_times(self) -> tuple[WindowTime, ...]:
        return self._clock.window_times()

    def explain(self, frames: int) -> str:
        windows = plan_windows(frames, self._chunk_frames, self._halo)
        largest = max(window.frames for window in windows)
        head = (
            f"native CPU kernels, {self._isa}, float32; {frames} frames in {len(windows)} windows "
            f"of at most {self._chunk_frames}, {self._halo} frames of halo each side"
        )
        return f"{head}\n{self._plan(largest)}"


def pack(program: Program, weights: Weights, isa: str) -> native.NativeSequence:
    """The program as a sequence that holds its own copy of the weights, packed."""
    sequence = native.sequence(isa)
    for step in program.steps:
        step.desc.add(sequence, program.slot, weights)
    return sequence
