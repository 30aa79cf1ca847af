"""Every command end to end, on inputs small enough to take moments."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.conftest import narrow_v2

from vocoder_kernels import native
from vocoder_kernels.cli import COMMANDS, memory_probe, synth


@pytest.fixture
def voice(tmp_path):
    """Checkpoint, mel of 30 frames, speaker, and the audio that the original forward gives."""
    module = narrow_v2()
    torch.save(module.state_dict(), tmp_path / "voice.pth")
    x, g = torch.randn(1, 24, 30), torch.randn(1, 16, 1)
    np.save(tmp_path / "mel.npy", x[0].numpy())
    np.save(tmp_path / "speaker.npy", g.flatten().numpy())
    with torch.inference_mode():
        audio = module(x, g).flatten().numpy()
    paths = [tmp_path / name for name in ("mel.npy", "voice.pth")]
    return [*paths, "--speaker", tmp_path / "speaker.npy", "--rate", 32000], audio


def read_wav(path):
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        data = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return file.getframerate(), data.astype(np.float64) / 32767


def shell(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "-m", "vocoder_kernels", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
        cwd=tempfile.gettempdir(),  # in the source tree, -m would find the package there
    )


def test_help_names_every_command_and_does_not_import_torch():
    done = shell("--help")
    assert done.returncode == 0
    assert all(name in done.stdout for name in COMMANDS)
    code = (
        "import sys; from vocoder_kernels.cli import main; main(['--help']); "
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, cwd=tempfile.gettempdir()
    )
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [(), ("sing",), ("synth",), ("bench", "--models", "v9")])
def test_bad_usage(arguments):
    done = shell(*arguments)
    assert done.returncode == 2
    assert "usage:" in done.stderr and "Traceback" not in done.stderr


def test_errors_are_sentences_unless_debugging(tmp_path):
    command = ("verify", tmp_path / "missing.pth")
    done = shell(*command)
    assert done.returncode == 2
    assert done.stderr == f"vocoder-kernels verify: {command[1]}: there is no such file\n"
    assert "Traceback" in shell(*command, "--debug").stderr


@pytest.mark.parametrize("chunk_frames", [7, 500])
def test_synth_writes_the_audio_of_the_original(run, accelerated, voice, tmp_path, chunk_frames):
    arguments, audio = voice
    out = tmp_path / "out.wav"
    done = run("synth", *arguments, "-o", out, "--json", "--chunk-frames", chunk_frames)
    assert done.code == 0, done.err
    rate_hz, samples = read_wav(out)
    assert rate_hz == 32000 and len(samples) == len(audio) == done.json["samples"]
    assert np.abs(samples - audio).max() < 1 / 32767
    assert done.json["how"] == "patched"
    assert not list(tmp_path.glob("*.part"))


def test_synth_in_float_and_eager(run, accelerated, voice, tmp_path):
    arguments, audio = voice
    out = tmp_path / "out.wav"
    done = run("synth", *arguments, "-o", out, "--float32", "--eager")
    assert done.code == 0 and "original forward" in done.out
    data = out.read_bytes()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert np.array_equal(np.frombuffer(data[-4 * len(audio) :], "<f4"), audio)


def test_synth_shows_progress_on_a_terminal(run, accelerated, voice, tmp_path, monkeypatch):
    arguments, _ = voice
    monkeypatch.setattr(synth.sys.stderr, "isatty", lambda: True, raising=False)
    done = run("synth", *arguments, "-o", tmp_path / "out.wav", "--chunk-frames", 10)
    assert done.code == 0 and "100%" in done.err


def test_synth_refuses_what_does_not_fit(run, accelerated, voice, tmp_path):
    (mel, checkpoint, *speaker), _ = voice
    np.save(tmp_path / "wrong.npy", np.zeros((3, 5), np.float32))
    out = ("-o", tmp_path / "out.wav")
    for arguments, why in (
        ((tmp_path / "wrong.npy", checkpoint, *speaker), "expected [24, T]"),
        ((mel, checkpoint, "--rate", 32000), "give it with --speaker"),
        ((mel, checkpoint, *speaker[:2]), "give it with --rate"),
        ((mel, mel), "PyTorch file"),
        ((mel, checkpoint, *speaker, "-o", tmp_path / "no" / "out.wav"), "there is no folder"),
    ):
        done = run("synth", *out, *arguments)
        assert done.code == 2 and why in done.err, done.err
        assert not (tmp_path / "out.wav").exists()


def test_verify(run, accelerated, voice):
    done = run("verify", voice[0][1], "--frames", 6)
    assert done.code == 0 and "passed" in done.out, done.out + done.err
    done = run("verify", voice[0][1], "--input", voice[0][0], "--json", *voice[0][2:4])
    assert done.json["ok"] and {row["frames"] for row in done.json["rows"]} == {30}
    assert all(row["max_error"] < 1e-5 for row in done.json["rows"])


def test_a_wrong_vocoder_fails_every_check(run, slightly_wrong, voice):
    assert run("verify", voice[0][1]).code == 1
    done = run("bench", "--models", "v2", "--rows", "speed", "--seconds", 0.1, "--json")
    rows = done.json_lines[1:]
    assert done.code == 1 and rows[1]["value"] is None and "max error" in rows[1]["why"]


def test_bench_lines_and_table(run, accelerated):
    common = ("bench", "--models", "v4", "--rows", "speed,small,first-call", "--seconds", 0.1)
    done = run(*common, "--repeats", 1, "--json", "--threads", 1)
    assert done.code == 0, done.out
    environment, *rows = done.json_lines
    assert environment["environment"]["threads"] == 1
    assert [row["unit"] for row in rows] == ["full scale", "x", "x", "s"]
    assert all(row["ok"] and row["value"] > 0 for row in rows)
    done = run("bench", "--models", "v2", "--rows", "speed", "--seconds", 0.05, "--repeats", 1)
    assert done.code == 0 and "v2: eager / patched, 0.05 s" in done.out
    if not torch.cuda.is_available():
        done = run("bench", "--device", "cuda")
        assert done.code == 2 and "no CUDA device" in done.err


def test_bench_says_when_nothing_was_patched(run, monkeypatch):
    monkeypatch.setenv("VOCODER_KERNELS_ENABLED", "off")
    done = run("bench", "--models", "v2", "--rows", "speed", "--json")
    assert done.code == 1 and all(not row["ok"] for row in done.json_lines[1:])


@pytest.mark.skipif(not native.available(), reason="the native core was not built")
def test_bench_operations(run):
    common = ("--operations", "--models", "v4", "--seconds", 0.02, "--repeats", 1)
    done = run("bench", *common, "--json")
    assert done.code == 0, done.out
    rows = done.json_lines[1:]
    assert {"conv", "upsample"} <= {row["operation"].split()[0] for row in rows}
    assert all(row["ok"] and row["our_error"] < 2e-6 for row in rows)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's /proc")
def test_memory_probe(capsys, accelerated, monkeypatch):
    monkeypatch.setattr(memory_probe, "SHORT_S", 0.1)
    memory_probe.main("v4", 0.2, torch.get_num_threads())
    assert '"peak_mib"' in capsys.readouterr().out


def test_doctor(run, accelerated):
    done = run("doctor", "--json")
    findings = {f["what"]: f for f in done.json["findings"]}
    assert done.code == 0, done.out
    assert findings["trial run on cpu"]["status"] == "ok"
    assert run("doctor").out.startswith("    ")


def test_doctor_finds_a_bad_setting(run, accelerated, monkeypatch):
    monkeypatch.setenv("VOCODER_KERNELS_CHUNK_FRAMES", "many")
    done = run("doctor", "--json")
    findings = {f["what"]: f for f in done.json["findings"]}
    assert done.code == 1
    assert "VOCODER_KERNELS_CHUNK_FRAMES" in findings["settings"]["remedy"]
