"""What the CPU engine allocates, counts and tells."""

from __future__ import annotations

import pytest
import torch
from reference import CONFIGS
from runtime.conftest import Case

from vocoder_kernels import native
from vocoder_kernels.runtime.windows import plan_windows

pytestmark = pytest.mark.usefixtures("needs_native")


@pytest.fixture
def hifigan():
    return Case(CONFIGS["hifigan"], chunk_frames=20)


def test_warming_up_allocates_what_the_call_needs(case):
    case.engine.warmup(70)
    warm = case.engine.statistics()
    case.engine(*case.inputs(70))
    used = case.engine.statistics()
    assert warm["pool_bytes"] == used["pool_bytes"] > 0
    assert warm["packed_bytes"] == used["packed_bytes"] > 0


def test_windows_are_counted(hifigan):
    x, g = hifigan.inputs(70, batch=3)
    hifigan.engine(x, g, [70, 1, 41])
    halo = hifigan.halo
    expected = sum(len(plan_windows(n, 20, halo)) for n in (70, 1, 41))
    assert hifigan.engine.statistics()["windows"] == expected == 4 + 1 + 3


def test_releasing_gives_all_of_it_back(hifigan):
    hifigan.engine(*hifigan.inputs(30))
    assert hifigan.engine.statistics()["packed_bytes"] > 0
    hifigan.engine.release()
    counters = hifigan.engine.statistics()
    assert counters["pool_bytes"] == counters["packed_bytes"] == counters["workspace_bytes"] == 0


@pytest.mark.parametrize("isa", native.isas() if native.available() else ["none"])
def test_the_explanation_names_kernels_steps_and_buffers(isa):
    engine = Case(CONFIGS["bigvgan"], isa=isa, chunk_frames=50).engine
    text = engine.explain(120)
    for words in (f"CPU kernels, {isa}", "120 frames in 3 windows", "GFLOP", "upsample", "pool of"):
        assert words in text, text


def test_nothing_but_the_output_stays_allocated(hifigan):
    """Steady state: the pool and the scratch keep their addresses."""
    executable = hifigan.engine.executable
    hifigan.engine(*hifigan.inputs(90))
    held = executable._pool.data_ptr(), executable._audio.data_ptr()
    for frames in (90, 3, 64):
        hifigan.engine(*hifigan.inputs(frames))
        assert (executable._pool.data_ptr(), executable._audio.data_ptr()) == held


def test_the_weights_of_the_model_are_not_held(hifigan):
    """Packed once: writing into the model without `update` changes nothing, freeing it frees it."""
    x, g = hifigan.inputs(9)
    before = hifigan.engine(x, g)
    with torch.no_grad():
        for parameter in hifigan.model.parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(hifigan.engine(x, g), before)
