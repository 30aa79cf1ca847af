"""The seams and concurrency benchmarks, on vocoders small enough to take moments."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import CONFIGS, build, inputs

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def load():
    sys.path.insert(0, str(BENCHMARKS))
    yield importlib.import_module
    sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def seams(load):
    return load("seams")


def case_of(seams, config, streams):
    x, g = inputs(CONFIGS[config], 200)
    vocoder = build(CONFIGS[config])
    return seams.Case(config, vocoder, x, g, 16000, 4 if streams else 12, streams)


@pytest.mark.parametrize("config,streams", [("hifigan", True), ("bigvgan", False)])
def test_only_ours_has_no_seams(seams, config, streams, tmp_path):
    case = case_of(seams, config, streams)
    whole, joined = seams.measure(case, 60)
    worst = {one.way: np.abs(one.error).max() for one in joined}
    assert worst.pop("ours") <= 1e-5 and worst.pop("our stream") <= 1e-5
    assert len(worst) == 3 and min(worst.values()) > 1e-3
    rows = seams.summary(case, whole, joined)
    assert {r["way"] for r in rows if r["wrong_samples_percent"] == 0} == {"ours", "our stream"}
    pytest.importorskip("matplotlib", reason="the picture needs matplotlib")
    seams.draw(tmp_path / "seams.png", [(case, whole, joined)])
    assert (tmp_path / "seams.png").read_bytes()[:4] == b"\x89PNG"


def test_enough_overlap_would_have_none(seams):
    """The simulated joining itself is sound: the middle of a fade over twice the receptive field is
    as exact as the vocoder."""
    case = case_of(seams, "hifigan", True)
    engine = seams.vocoder_kernels.compile(case.vocoder)
    halo, hop = engine.vocoder.receptive_field, engine.vocoder.hop_length
    overlap = 2 * halo + 2
    parts = seams.overlapped(dataclasses.replace(case, overlap_frames=overlap), 150, hop)
    out, lags = seams.cross_faded(parts, overlap * hop, 0)
    middle = slice((150 - overlap + halo) * hop, (150 - halo) * hop)
    assert lags == 0 and (out - case(case.x))[middle].abs().max() <= 1e-5


def test_search_finds_a_lag(seams):
    signal = torch.sin(torch.arange(3000) * 0.05) * torch.hann_window(3000)
    out, lags = seams.cross_faded([signal[:1500], signal[1300 - 37 :]], 200, 320)
    assert lags == 37 and (out - signal[: out.numel()]).abs().max() < 1e-5


def test_clients_alone_and_joined(load):
    concurrency = load("concurrency")
    args = argparse.Namespace(clients=3, frames=[5, 20], seconds=0.5, threads=1, frame_s=0.01)
    model = build(CONFIGS["hifigan"])
    for way, options in concurrency.WAYS.items():
        row = concurrency.measure(args, model, options)
        assert row["requests_per_s"] > 0 and row["p50_s"] <= row["p95_s"]
        assert (row["joined"] > 0) == (way != "one by one")


def test_a_call_that_was_not_ours_is_no_measurement(load):
    concurrency = load("concurrency")
    args = argparse.Namespace(clients=1, frames=[5, 20], seconds=0.1, threads=1, frame_s=0.01)
    with pytest.raises(RuntimeError, match="not patched"):
        concurrency.measure(args, build(CONFIGS["hifigan"]).train(), {})
