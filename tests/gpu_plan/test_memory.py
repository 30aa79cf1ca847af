"""The pool of a window, planned without a device."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from planning import EveryKernel, NoFusion, program, vocoder
from reference import configs

from vocoder_kernels.backends.cuda.plan import place

BYTES_PER_FRAME = {"v2": 300_000, "v4": 220_000, "v3": 160_000}
"""Most that a frame of a window may take, in float16."""


@pytest.mark.parametrize("version", BYTES_PER_FRAME)
def test_pool_of_the_models(version):
    for choose in (EveryKernel(), NoFusion()):
        pool = place(program(vocoder(version), choose=choose), 512, 1)
        pool.check()
        assert pool.pool_bytes <= 1.1 * pool.live_bytes
        assert pool.pool_bytes <= 512 * BYTES_PER_FRAME[version]


@settings(max_examples=30)
@given(config=configs(), frames=st.integers(1, 300), batch=st.integers(1, 9))
def test_no_live_buffers_overlap(config, frames, batch):
    found = program(vocoder(config))
    pool = place(found, frames, batch)
    pool.check()
    sizes = {p.name: p.size for p in pool.placements}
    for name, buffer in found.buffers.items():
        shape = buffer.shape(frames, batch)
        assert torch.Size(shape).numel() * buffer.dtype.itemsize == buffer.nbytes(frames, batch)
        assert sizes[name] >= buffer.nbytes(frames, batch)


@settings(max_examples=30)
@given(config=configs(), frames=st.integers(1, 64))
def test_inputs_are_live_from_the_start_and_output_to_the_end(config, frames):
    """They are copied in before any launch and out after the last."""
    found = program(vocoder(config))
    lives = {p.name: p for p in place(found, frames, 2).placements}
    inputs = [lives[name] for name in found.steps[0].writes]
    assert all(p.first == 0 for p in inputs)
    assert lives["output"].last == len(found.steps) - 1


@settings(max_examples=30)
@given(config=configs(), frames=st.integers(2, 300))
def test_more_frames_take_no_less_memory(config, frames):
    found = program(vocoder(config))
    assert place(found, frames, 1).live_bytes >= place(found, frames - 1, 1).live_bytes
