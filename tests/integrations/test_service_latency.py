"""The service benchmark against a real HTTP server on this machine."""

from __future__ import annotations

import importlib
import io
import json
import sys
import threading
import time
import wave
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from integrations.processes import RUN

import vocoder_kernels
from vocoder_kernels.modules import Generator
from vocoder_kernels.modules.presets import randomise_

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
RATE_HZ = 16000
STREAM_GAP_S = 0.3


@pytest.fixture(scope="module")
def service_latency():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield importlib.import_module("service_latency")
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def vocoder():
    module = Generator(8, "1", (3,), ((1, 3),), (4, 4), 32, (8, 8))
    randomise_(module).eval()
    assert vocoder_kernels.patch(module)
    return module


@pytest.fixture
def server(vocoder):
    """Serves /tts like the upstream API: audio in proportion to the text, made by the vocoder."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if not body.get("ref_audio_path"):
                self.send_response(400)
                self.end_headers()
                self.wfile.write(b'{"message": "ref_audio_path is required"}')
                return
            mel = torch.randn(1, 8, 10 * len(body["text"]))
            with torch.inference_mode():
                audio = vocoder(mel)[0, 0].numpy()
            data = io.BytesIO()
            with wave.open(data, "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(RATE_HZ)
                file.writeframes((audio * 32767).astype(np.int16).tobytes())
            self.send_response(200)
            self.end_headers()
            half = len(data.getvalue()) // 2
            self.wfile.write(data.getvalue()[:half])
            if body.get("streaming_mode"):
                time.sleep(STREAM_GAP_S)
            self.wfile.write(data.getvalue()[half:])

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def run(service_latency, url, *more):
    common = [
        "--url",
        url,
        "--param",
        "ref_audio_path=voice.wav",
        "--repeats",
        "2",
        "--warmup",
        "1",
    ]
    return service_latency.main([*common, *more])


def test_measures_every_text_and_level(service_latency, server, tmp_path, capsys):
    out = tmp_path / "samples.jsonl"
    code = run(service_latency, server, "--concurrency", "1", "2", "--out", str(out))
    assert code == 0
    samples = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(samples) == 3 * (2 * 1 + 2 * 2)
    for sample in samples:
        text = service_latency.TEXTS["en"][sample["text"]]
        assert sample["audio_s"] == pytest.approx(10 * len(text) * 16 / RATE_HZ)
        assert 0 < sample["first_audio_s"] <= sample["total_s"]
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("short", "medium", "long"))


def test_first_audio_of_a_stream(service_latency, server, tmp_path):
    out = tmp_path / "samples.jsonl"
    more = ["--stream", "--texts", "short", "--concurrency", "1", "--language", "zh"]
    assert run(service_latency, server, *more, "--out", str(out)) == 0
    for sample in map(json.loads, out.read_text().splitlines()):
        assert sample["first_audio_s"] < sample["total_s"] - 0.9 * STREAM_GAP_S


def test_a_service_started_by_run(service_latency, serve, tmp_path, capsys):
    """Both presets, before and after: the script untouched, the audio of a patched vocoder."""
    for label, before in (("stock", ()), ("patched", RUN)):
        service = serve(*before, version="v3")
        for preset, needed in (
            ("tts", "ref_audio_path=a.wav"),
            ("tts_with_cached_voice", "voice_name=a"),
        ):
            out = tmp_path / f"{label}-{preset}.jsonl"
            arguments = ["--url", service.url, "--preset", preset, "--param", needed]
            arguments += [
                "--texts",
                "medium",
                "--repeats",
                "2",
                "--label",
                label,
                "--out",
                str(out),
            ]
            assert service_latency.main(arguments) == 0, capsys.readouterr().err
        log = service.stop()
    assert "vocoder (BigVGAN) runs on the cpu kernels" in log and "original forward" not in log
    capsys.readouterr()
    paths = [str(tmp_path / f"{label}-tts.jsonl") for label in ("stock", "patched")]
    assert service_latency.main(["--compare", *paths]) == 0
    assert "p50 ratio" in capsys.readouterr().out


def test_redirects_and_proxies_are_not_followed(service_latency, monkeypatch, capsys):
    class Redirect(BaseHTTPRequestHandler):
        def do_POST(self):
            self.send_response(302)
            self.send_header("Location", "http://example.invalid/")
            self.end_headers()

        def log_message(self, *args):
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Redirect)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("http_proxy", "http://example.invalid:1")
    url = f"http://127.0.0.1:{httpd.server_port}"
    assert service_latency.main(["--url", url, "--texts", "short"]) == 1
    assert "HTTP 302" in capsys.readouterr().err
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def test_compares_two_runs_and_draws(service_latency, server, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="the chart needs matplotlib")
    paths = [tmp_path / "before.jsonl", tmp_path / "after.jsonl"]
    for path in paths:
        more = ["--texts", "short", "--concurrency", "1", "--label", path.stem, "--out", str(path)]
        assert run(service_latency, server, *more) == 0
    capsys.readouterr()
    picture = tmp_path / "latency.png"
    code = service_latency.main(["--compare", *map(str, paths), "--plot", str(picture)])
    assert code == 0
    assert "p50 ratio" in capsys.readouterr().out
    assert picture.read_bytes()[:4] == b"\x89PNG"


def test_failures_are_sentences(service_latency, server, capsys):
    assert service_latency.main(["--url", server, "--texts", "short"]) == 1
    assert "ref_audio_path is required" in capsys.readouterr().err
    assert service_latency.main(["--url", "http://127.0.0.1:9", "--texts", "short"]) == 1
    assert "no answer" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv",
    [["--url", "http://example.com"], ["--param", "text_lang"], ["--concurrency", "0"]],
    ids=["remote host", "malformed parameter", "no clients"],
)
def test_bad_usage(service_latency, argv, capsys):
    with pytest.raises(SystemExit) as stop:
        service_latency.main(argv)
    assert stop.value.code == 2
    assert "expected" in capsys.readouterr().err or "remote" in argv[0] or "url" in argv[0]


def test_streamed_header_without_length(service_latency):
    header = b"RIFF\xff\xff\xff\xffWAVEfmt \x10\x00\x00\x00\x01\x00\x01\x00"
    rate = (16000).to_bytes(4, "little") + (32000).to_bytes(4, "little") + b"\x02\x00\x10\x00"
    data = header + rate + b"data\xff\xff\xff\xff" + bytes(64000)
    assert service_latency.wav_seconds(data) == 2.0
    with pytest.raises(ValueError, match="expected WAV"):
        service_latency.wav_seconds(b'{"message": "no"}')
