#!/usr/bin/env python3
"""Latency and throughput of a running GPT-SoVITS HTTP service.

    python benchmarks/service_latency.py --preset tts --param ref_audio_path=ref.wav \
        --label before --out before.jsonl
    python benchmarks/service_latency.py --compare before.jsonl after.jsonl --plot latency.png

Every request's time to the first audio byte and to the last is measured on the client; the length
of the audio is read from the WAV that comes back, so the real-time factor is the service's own.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import json
import struct
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
import service_report

PRESETS = {
    "tts": ("/tts", "json", ("text_lang", "prompt_lang")),
    "tts_with_cached_voice": ("/tts_with_cached_voice", "query", ("text_lang",)),
}
"""Path, where the endpoint reads its parameters, and which of them are the language."""
TEXTS = {
    "en": {
        "short": "Hello, how are you today?",
        "medium": "The quick brown fox jumps over the lazy dog while the sun sets slowly behind "
        "the distant hills, and the village prepares for the evening.",
        "long": "Speech synthesis turns written text into sound. A first model reads the text and "
        "decides how it should be spoken, a second one paints the sound as a spectrogram, and a "
        "vocoder turns that picture into a wave of tens of thousands of samples per second. The "
        "last step does most of the arithmetic, so it decides how long a listener waits, and how "
        "many listeners one machine can serve.",
    },
    "zh": {
        "short": "你好，今天好吗？",
        "medium": "傍晚的风吹过河岸，村子里的人点起了灯，准备一天的晚饭。",
        "long": "语音合成把文字变成声音。第一个模型读懂文字，决定怎样说出来；"
        "第二个模型把声音画成频谱；最后由声码器把这幅图变成每秒几万个采样的波形。最后一步的计算量最大，"
        "所以听众要等多久，一台机器能同时服务多少人，都由它决定。",
    },
}
LOCAL_HOSTS = ("127.0.0.1", "localhost", "::1")


class _Stay(urllib.request.HTTPRedirectHandler):
    """The host that was asked for answers itself, or the request fails."""

    def redirect_request(self, *args: object) -> None:
        return None


direct = urllib.request.build_opener(urllib.request.ProxyHandler({}), _Stay)


@dataclass(frozen=True)
class Sample:
    """One request: seconds to the first audio byte and to the last, and of audio returned."""

    label: str
    text: str
    concurrency: int
    first_audio_s: float
    total_s: float
    audio_s: float
    started_s: float


def wav_seconds(data: bytes) -> float:
    """Length of a WAV file in seconds; a streamed one's header may not know its size.

    Raises ``ValueError`` if the data is no WAV file.
    """
    if data[:4] != b"RIFF" or data[8:12] != b"WAVE":
        raise ValueError(f"expected WAV audio, got {data[:40]!r}")
    position, bytes_per_second = 12, 0
    while position + 8 <= len(data):
        name, size = struct.unpack_from("<4sI", data, position)
        position += 8
        if name == b"fmt ":
            bytes_per_second = struct.unpack_from("<I", data, position + 8)[0]
        elif name == b"data":
            if not bytes_per_second:
                raise ValueError("WAV audio has no format before its data")
            return (len(data) - position) / bytes_per_second
        position += size + size % 2
    raise ValueError("WAV audio has no data")


def request(
    url: str, parameters: dict[str, object], timeout_s: float, where: str = "json"
) -> tuple[float, float, float]:
    """POST one request, its parameters as a JSON body or as a query; returns seconds to the first
    audio byte, to the last, and of audio."""
    if where == "query":
        url, body = f"{url}?{urllib.parse.urlencode(parameters)}", b""
    else:
        body = json.dumps(parameters).encode()
    post = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    start = time.perf_counter()
    try:
        with direct.open(post, timeout=timeout_s) as response:
            data = response.read(256)
            first = time.perf_counter() - start
            parts = [data]
            while True:
                part = response.read(65536)
                if not part:
                    break
                parts.append(part)
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{url}: HTTP {error.code}: {error.read(300)!r}") from error
    except (urllib.error.URLError, OSError) as error:
        raise RuntimeError(f"{url}: no answer: {error}") from error
    total = time.perf_counter() - start
    return first, total, wav_seconds(b"".join(parts))


def measure(
    args: argparse.Namespace, url: str, parameters: dict[str, object], where: str
) -> list[Sample]:
    """All texts at all concurrency levels, after a warm-up of each text."""
    samples = []
    for name in args.texts:
        one = {**parameters, "text": TEXTS[args.language][name]}
        for _ in range(args.warmup):
            request(url, one, args.timeout, where)
        for level in args.concurrency:

            def call(_: int, one: dict[str, object] = one) -> tuple[float, float, float, float]:
                started = time.perf_counter()
                return (started, *request(url, one, args.timeout, where))

            with concurrent.futures.ThreadPoolExecutor(level) as pool:
                for started, first, total, audio in pool.map(call, range(args.repeats * level)):
                    samples.append(Sample(args.label, name, level, first, total, audio, started))
            print(f"{name}, {level} at once: done", file=sys.stderr)
    return samples


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:9880")
    parser.add_argument("--preset", choices=sorted(PRESETS), default="tts")
    parser.add_argument("--endpoint", help="path of the endpoint, instead of the preset's")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--stream", action="store_true", help="ask for streaming_mode")
    parser.add_argument("--language", choices=list(TEXTS), default="en")
    texts = list(TEXTS["en"])
    parser.add_argument("--texts", nargs="+", choices=texts, default=texts)
    parser.add_argument("--repeats", type=int, default=5, help="requests per client and text")
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--timeout", type=float, default=300.0)
    parser.add_argument("--label", default="service")
    parser.add_argument("--out", type=Path, help="append samples as JSON lines")
    parser.add_argument("--compare", type=Path, nargs=2, metavar=("BEFORE", "AFTER"))
    parser.add_argument("--plot", type=Path, help="write a bar chart (PNG)")
    parser.add_argument(
        "--allow-remote", action="store_true", help="permit a host not this machine"
    )
    args = parser.parse_args(argv)
    for name in ("repeats", "warmup"):
        if getattr(args, name) < (1 if name == "repeats" else 0):
            parser.error(f"--{name}: expected a positive number, got {getattr(args, name)}")
    if min(args.concurrency) < 1:
        parser.error(f"--concurrency: expected at least 1, got {min(args.concurrency)}")
    host = urllib.parse.urlparse(args.url).hostname
    if not args.compare and host not in LOCAL_HOSTS and not args.allow_remote:
        parser.error(f"--url: {host} is not this machine; add --allow-remote if you mean it")
    bad = [p for p in args.param if "=" not in p]
    if bad:
        parser.error(f"--param: expected KEY=VALUE, got {bad[0]!r}")
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    try:
        if args.compare:
            runs = [service_report.load(path) for path in args.compare]
        else:
            endpoint, where, languages = PRESETS[args.preset]
            parameters: dict[str, object] = dict.fromkeys(languages, args.language)
            parameters["media_type"] = "wav"
            parameters.update(p.split("=", 1) for p in args.param)
            if args.stream:
                parameters["streaming_mode"] = True
            url = args.url.rstrip("/") + (args.endpoint or endpoint)
            runs = [[asdict(s) for s in measure(args, url, parameters, where)]]
            if args.out:
                with args.out.open("a", encoding="utf-8") as file:
                    file.writelines(json.dumps(s) + "\n" for s in runs[0])
    except (RuntimeError, ValueError, OSError) as error:
        print(f"service_latency: {error}", file=sys.stderr)
        return 1
    print(service_report.table(*runs))
    if args.plot:
        service_report.plot(args.plot, *runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
