#!/usr/bin/env python3
"""Where the time of a GPT-SoVITS request goes: text, semantic, acoustic, vocoder.

    python benchmarks/stages.py --root GPT-SoVITS --param ref_audio_path=ref.wav \
        --param prompt_lang=en --param prompt_text="what the reference says"

Loads the pipeline of a GPT-SoVITS folder with its own configuration, alternates stock and patched
requests of the same text and seed, and prints seconds, shares and calls of every stage. The share
of the vocoder bounds what any faster vocoder can bring; the rest of the time is not ours.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
from service_latency import TEXTS

import vocoder_kernels
from vocoder_kernels.integrations.gpt_sovits.timing import STAGES, StageTimes, timed


def load_pipeline(root: Path, config: str) -> Any:
    """The ``TTS`` of a GPT-SoVITS folder, imported as its own scripts do; the working directory
    becomes that folder."""
    os.chdir(root)
    sys.path[:0] = [str(root), str(root / "GPT_SoVITS")]
    from TTS_infer_pack.TTS import TTS, TTS_Config

    return TTS(TTS_Config(config))


def request(tts: Any, parameters: dict[str, Any]) -> StageTimes:
    with timed(tts) as times:
        for _ in tts.run(parameters):
            pass
    return times


def measure(tts: Any, parameters: dict[str, Any], repeats: int, warmup: int) -> list[StageTimes]:
    """Sums of ``repeats`` requests: stock, then patched; they alternate."""
    totals = [StageTimes(), StageTimes()]
    for repeat in range(-warmup, repeats):
        for total, patched in zip(totals, (False, True)):
            tts.use_vocoder_optimization = patched
            times = request(tts, dict(parameters))
            if repeat >= 0:
                total.add(times)
    return totals


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", type=Path, required=True, help="folder of GPT-SoVITS")
    parser.add_argument("--config", default="GPT_SoVITS/configs/tts_infer.yaml")
    parser.add_argument("--param", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--language", choices=list(TEXTS), default="en")
    texts = list(TEXTS["en"])
    parser.add_argument("--texts", nargs="+", choices=texts, default=texts)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=1)
    args = parser.parse_args(argv)
    if args.repeats < 1 or args.warmup < 0:
        parser.error("--repeats: expected at least 1; --warmup: at least 0")
    bad = [p for p in args.param if "=" not in p]
    if bad:
        parser.error(f"--param: expected KEY=VALUE, got {bad[0]!r}")
    tts = load_pipeline(args.root.resolve(), args.config)
    print(vocoder_kernels.patch(tts, enabled=True))
    parameters = {"text_lang": args.language, "prompt_lang": args.language, "seed": 0}
    parameters.update(p.split("=", 1) for p in args.param)
    for name in args.texts:
        spoken = {**parameters, "text": TEXTS[args.language][name]}
        stock, patched = measure(tts, spoken, args.repeats, args.warmup)
        for title, times in (("stock", stock), ("patched", patched)):
            print(f"\n{name} text, {args.repeats} requests, {title}\n{times}")
        for stage, before, after in (
            *((s, stock.seconds[s], patched.seconds[s]) for s in STAGES[-1:]),
            ("whole request", stock.total_seconds, patched.total_seconds),
        ):
            if after > 0:
                print(f"{stage}: {before / after:.2f}x")
    print(f"\n{vocoder_kernels.report(tts)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
