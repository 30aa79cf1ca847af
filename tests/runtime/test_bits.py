"""One utterance gives the same bits however it is run; what cannot is bounded."""

from __future__ import annotations

import threading

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import BIGVGAN, CONFIGS, HIFIGAN, build, configs
from runtime.conftest import Case, poisoned_memory

from vocoder_kernels.families import describe, extract
from vocoder_kernels.runtime.windows import plan_windows

pytestmark = pytest.mark.usefixtures("needs_native")


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def test_repeats_and_lengths_in_between(case):
    x, g = case.inputs(50)
    first = case.engine(x, g)
    for frames in (3, 200, 50, 1):
        case.engine(*case.inputs(frames, seed=frames))
    assert torch.equal(case.engine(x, g), first)


def test_any_number_of_threads(case, threads):
    chunked = Case(case.config, chunk_frames=20)
    for frames in (2, 50):
        x, g = case.inputs(frames)
        outputs = []
        for count in (1, 2, 3):
            threads(count)
            outputs.append((case.engine(x, g), chunked.engine(x, g)))
        for whole, windows in outputs:
            assert torch.equal(whole, outputs[0][0]) and torch.equal(windows, outputs[0][1])


def test_threads_of_the_options_are_the_same_bits(case):
    x, g = case.inputs(40)
    assert torch.equal(Case(case.config, threads=1).engine(x, g), case.engine(x, g))
    assert torch.equal(Case(case.config, threads=3).engine(x, g), case.engine(x, g))


@given(
    config=configs(),
    frames=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    chunk_frames=st.integers(1, 16),
)
@settings(max_examples=40)
def test_each_row_of_a_ragged_batch_is_as_if_alone(config, frames, chunk_frames):
    case = Case(config, chunk_frames=chunk_frames)
    x, g = case.inputs(max(frames), batch=len(frames))
    for row, n in enumerate(frames):
        x[row, :, n:] = torch.nan
    with poisoned_memory():
        out = case.engine(x, g, frames)
    for row, n in enumerate(frames):
        end = case.engine.vocoder.length(n)
        alone = case.engine(x[row : row + 1, :, :n], None if g is None else g[row : row + 1])
        assert torch.equal(out[row : row + 1, :, :end], alone)
        assert not out[row, :, end:].any()


@given(config=configs(), frames=st.integers(1, 60), chunks=st.lists(st.integers(1, 40), max_size=3))
@settings(max_examples=30)
def test_windows_of_any_size(config, frames, chunks):
    case = Case(config)
    x, g = case.inputs(frames)
    whole = case.engine(x, g)
    for chunk_frames in chunks:
        cut = Case(config, chunk_frames=chunk_frames).engine(x, g)
        assert (cut - whole).abs().max() <= case.window_allowance(x, g)


@pytest.mark.parametrize("chunk_frames", [1, 16, 33])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("config", [HIFIGAN, BIGVGAN], ids=["hifigan", "bigvgan"])
def test_windows_without_transforms_are_the_same_bits(config, kernel, chunk_frames):
    """Narrow layers of short kernels are computed directly."""
    config = {**config, "resblock_kernel_sizes": (kernel,), "resblock_dilation_sizes": ((1, 3, 5),)}
    config["upsample_initial_channel"] = 32
    case = Case(config)
    x, g = case.inputs(60)
    cut = Case(config, chunk_frames=chunk_frames)
    assert torch.equal(cut.engine(x, g), case.engine(x, g))


def test_memory_before_a_run_does_not_matter(case):
    """The pool, the scratch for audio and the output hold NaN before every window."""
    x, g = case.inputs(60, batch=2)
    clean = Case(case.config, chunk_frames=25).engine(x, g)
    with poisoned_memory():
        poisoned = Case(case.config, chunk_frames=25)
        for _ in range(2):
            assert torch.equal(poisoned.engine(x, g), clean)
            for tensor in (poisoned.engine.executable._pool, poisoned.engine.executable._audio):
                assert tensor.numel()
                tensor.fill_(torch.nan)


def test_inputs_in_any_layout(case):
    x, g = case.inputs(21, batch=2)
    expected = case.engine(x, g)
    channels = x.shape[1]
    strided = torch.full((2, 3 * channels, 2 * 21), torch.nan)[:, ::3, ::2].copy_(x)
    layouts = {
        "channels last": x.transpose(1, 2).contiguous().transpose(1, 2),
        "strided": strided,
        "a slice": torch.nn.functional.pad(x, (5, 3), value=torch.nan)[:, :, 5:-3],
        "batch last": x.permute(1, 2, 0).contiguous().permute(2, 0, 1),
        "offset by one element": torch.cat([torch.zeros(1), x.flatten()])[1:].view_as(x),
    }
    for name, same in layouts.items():
        assert torch.equal(same, x)
        assert torch.equal(case.engine(same, g), expected), name
    repeated = x[:1].expand(3, -1, -1)
    one = None if g is None else g[:1]
    assert torch.equal(case.engine(repeated, one)[2:], case.engine(x[:1], one))
    constant = x[:1, :, :1].expand(-1, -1, 9)
    assert torch.equal(case.engine(constant, one), case.engine(constant.contiguous(), one))
    if g is not None:
        spread = torch.full((2, 2 * g.shape[1], 1), torch.nan)[:, ::2].copy_(g)
        assert torch.equal(case.engine(x, spread), expected)


def test_the_input_is_not_written(case):
    x, g = case.inputs(30)
    kept = x.clone()
    case.engine(x, g)
    assert torch.equal(x, kept)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_not_finite_stays_where_it_can(case, bad):
    """All of eager's non-finite samples are ours too; ours reach no further than the windows that
    read the frame, no other row and no later call."""
    chunk_frames = 10
    chunked = Case(case.config, chunk_frames=chunk_frames)
    frames = 6 * case.halo + 40
    x, g = case.inputs(frames, batch=2)
    clean = chunked.engine(x, g)
    where = frames // 2
    dirty = x.clone()
    dirty[1, 0, where] = bad
    ours, eager = chunked.engine(dirty, g), case.eager(dirty, g)
    assert torch.equal(ours[0], clean[0])
    assert not ours[1][~eager[1].isfinite()].isfinite().any()
    for window in plan_windows(frames, chunk_frames, case.halo):
        if not window.read_start <= where < window.read_end:
            kept = slice(window.keep_start * case.hop, window.keep_end * case.hop)
            assert torch.equal(ours[1, :, kept], clean[1, :, kept])
    assert torch.equal(chunked.engine(x, g), clean)


def test_many_threads_on_one_engine():
    case = Case(CONFIGS["hifigan"], chunk_frames=16)
    cases = [case.inputs(frames, seed=frames) for frames in (1, 5, 30, 47)]
    expected = [case.engine(*c) for c in cases]
    wrong: list[str] = []

    def work(start: int) -> None:
        for i in range(12):
            which = (start + i) % len(cases)
            try:
                same = torch.equal(case.engine(*cases[which]), expected[which])
            except Exception as error:
                wrong.append(repr(error))
            else:
                wrong.extend([] if same else [f"call {i} of thread {start} differs"])

    workers = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


def test_updated_weights_are_the_weights_of_a_new_engine(case):
    other = build(case.config, seed=5)
    x, g = case.inputs(20)
    before = case.engine(x, g)
    case.engine.update(extract(other, describe(other)))
    after = case.engine(x, g)
    assert not torch.equal(after, before)
    case.engine.update(extract(case.model, describe(case.model)))
    assert torch.equal(case.engine(x, g), before)


def test_constant_memory(case):
    """Beyond one window the pool does not grow, and repeats allocate nothing."""
    chunked = Case(case.config, chunk_frames=24)
    sizes = []
    for frames in (24 + 2 * case.halo, 500, 900):
        chunked.engine(*case.inputs(frames))
        counters = chunked.engine.statistics()
        sizes.append((counters["pool_bytes"], counters["workspace_bytes"]))
    assert sizes[1] == sizes[2] and sizes[1][0] <= 2.2 * sizes[0][0]
