"""Stage times: they add up, they see through generators, and they leave nothing behind."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
from integrations.processes import TESTS, environment

from vocoder_kernels import patch, report
from vocoder_kernels.integrations.gpt_sovits.timing import STAGES, timed

TEXT = {"text": "the quick brown fox jumps over the lazy dog", "text_lang": "en"}
SLEEP_S = 0.05


def slow(owner, name, seconds=SLEEP_S):
    """Make a method take longer, as its model would."""
    inner = getattr(type(owner), name)

    def slower(*args, **kwargs):
        time.sleep(seconds)
        return inner(owner, *args, **kwargs)

    object.__setattr__(owner, name, slower)


@pytest.mark.parametrize("version", ["v2", "v3"])
@pytest.mark.parametrize("more", [{}, {"parallel_infer": False}, {"streaming_mode": True}])
@pytest.mark.parametrize("is_patched", [False, True], ids=["stock", "patched"])
def test_every_stage_has_its_own_time(make_tts, version, more, is_patched):
    tts = make_tts(version)
    if is_patched:
        assert patch(tts)
    slow(tts.text_preprocessor, "segment_and_extract_feature_for_text")
    before = {id(owner): dict(vars(owner)) for owner in (tts, tts.vits_model)}
    with timed(tts) as times:
        list(tts.run({**TEXT, **more}))
    assert times.seconds["text"] >= SLEEP_S
    assert times.calls["vocoder"] == 1 and times.calls["acoustic"] == 1
    assert times.calls["semantic"] >= 1
    assert all(times.seconds[stage] > 0 for stage in STAGES)
    assert sum(times.seconds.values()) <= times.total_seconds
    assert all(vars(owner) == before[id(owner)] for owner in (tts, tts.vits_model))
    assert "infer_panel_naive" not in vars(tts.t2s_model.model)
    if is_patched:
        assert report(tts).modules[0].statistics["accelerated"] == 1


def test_a_streaming_stage_is_timed_by_its_steps(make_tts):
    tts = make_tts("v2")

    def tokens(phones, chunk_length=16):
        for part in phones.split(chunk_length):
            time.sleep(SLEEP_S)
            yield part

    tts.t2s_model.model.infer_panel_naive = tokens
    with timed(tts) as times:
        list(tts.run({**TEXT, "streaming_mode": True}))
    steps = -(-len(TEXT["text"]) // 16)
    assert steps * SLEEP_S <= times.seconds["semantic"] <= times.total_seconds
    assert times.calls["semantic"] == 1


def test_prints_shares(make_tts):
    tts = make_tts("v3")
    with timed(tts) as times:
        list(tts.run(TEXT))
        list(tts.run(TEXT))
    lines = str(times).splitlines()
    assert [line.split()[0] for line in lines] == ["stage", *STAGES, "other"]
    shares = [float(line.split()[2].rstrip("%")) for line in lines[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.5)


def test_what_is_no_pipeline_is_refused():
    with pytest.raises(ValueError, match="none of the stages"), timed(object()):
        pass


def test_script_prints_stages_stock_and_patched(installation):
    installation.configure("v3", use_vocoder_optimization=False)
    command = [
        sys.executable,
        TESTS.parent / "benchmarks" / "stages.py",
        "--root",
        installation.root,
    ]
    command += ["--texts", "short", "--repeats", "1", "--param", "ref_audio_path=a.wav"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for expected in (
        "short text, 1 requests, stock",
        "short text, 1 requests, patched",
        "vocoder: ",
    ):
        assert expected in done.stdout
    assert "whole request: " in done.stdout and "patched" in done.stdout
