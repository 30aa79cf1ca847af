"""Measured configurations: other launches, the same bits, remembered on disk."""

from __future__ import annotations

import json

import pytest
import torch
from vocoders import BRIEF, case

from vocoder_kernels.backends.cuda import tune


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """The file of configurations."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "vocoder_kernels" / "configurations.json"


@pytest.fixture
def measured(monkeypatch):
    """Launches that were measured, one run each; the slower of two always wins."""
    launches = []

    def time_us(launch):
        launch()
        launches.append(launch)
        return -float(len(launches))

    monkeypatch.setattr(tune, "time_us", time_us)
    return launches


@pytest.mark.parametrize("name", sorted(BRIEF))
def test_same_bits_and_remembered(name, kept, measured):
    c = case(BRIEF[name], torch.float16, frames=20)
    expected = c.engine()(*c.args)
    assert torch.equal(c.engine(autotune=True)(*c.args), expected)
    entries, count = json.loads(kept.read_text()), len(measured)
    assert count > len(entries) > 0
    again = c.engine(autotune=True)
    assert torch.equal(again(*c.args), expected) and len(measured) == count
    (runner,) = again.executable._runners.values()
    chosen = {str(launch.args[1]) for launch in runner.launches}
    assert set(entries.values()) <= chosen


@pytest.mark.parametrize("text", ("{", "[]", '{"key": 3}'))
def test_a_damaged_file_is_replaced(text, kept, measured):
    kept.parent.mkdir()
    kept.write_text(text)
    c = case(BRIEF["hifigan"], torch.float16, frames=5)
    assert torch.equal(c.engine(autotune=True)(*c.args), c.engine()(*c.args))
    assert len(json.loads(kept.read_text())) > 1


def test_times_are_of_the_device(kept):
    x = torch.ones(4, device="cuda")
    assert tune.time_us(lambda: x.copy_(x)) >= 0
