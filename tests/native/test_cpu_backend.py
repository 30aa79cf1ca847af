"""The CPU backend: plans, memory of packed weights."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vocoder_kernels import compile, native
from vocoder_kernels.backends.cpu.lower import INPUT, OUTPUT, lower
from vocoder_kernels.backends.cpu.plan import plan
from vocoder_kernels.families import describe
from vocoder_kernels.modules import build

MIB = 2**20
V2 = describe(build("v2"))


@given(frames=st.integers(1, 700), width=st.sampled_from([8, 16]))
def test_every_buffer_of_a_window_has_room(frames, width):
    program = lower(V2)
    where = plan(program, frames, width)
    where.pool.check()
    placed = {p.name: p for p in where.pool.placements}
    for buffer, offset, stride in zip(program.buffers, where.offsets_bytes, where.t_strides):
        rows = V2.scales[buffer.scale].length(frames)
        blocks = -(-buffer.channels // width)
        assert stride >= rows
        assert offset + 4 * width * blocks * stride <= where.pool_bytes
        assert placed[buffer.name].size >= 4 * width * blocks * stride
    assert sum(step.flops for step in where.steps) == V2.flops(frames)
    assert where.steps[0].reads == (INPUT,) and where.steps[-1].writes == (OUTPUT,)


@pytest.mark.skipif(not native.available(), reason="the native kernels were not built")
def test_packed_weights_respect_their_limit():
    module = build("v2")
    free = compile(module, chunk_frames=64)
    free.warmup(64)
    lean = compile(module, chunk_frames=64, packed_mib=100)
    lean.warmup(64)
    used = [engine.statistics()["packed_bytes"] / MIB for engine in (free, lean)]
    assert used[1] <= 100 < used[0]
    x, g = torch.randn(1, 192, 20), torch.randn(1, 512, 1)
    with torch.no_grad():
        exact = module.double()(x.double(), g.double())
    for engine in (free, lean):
        assert (engine(x, g) - exact).abs().max() < 1e-5
