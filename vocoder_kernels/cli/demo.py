"""``vocoder-kernels demo``: the main job on real input, a trained voice speaking a sentence."""

from __future__ import annotations

import argparse
import copy
import time
from pathlib import Path

import torch
from torch import nn

from .. import patch
from ..families import describe
from . import FAILED_CHECK, OK
from .measure import FULL_SCALE_LIMIT, against_float64, fell_back, interleaved
from .output import (
    add_json,
    add_threads,
    decibels,
    error,
    json_line,
    milliseconds,
    note,
    set_threads,
    table,
    whole_number,
)
from .picture import draw
from .voice import HOW_TO_INSTALL, load_voice
from .wav import wav_writer

TEXT = (
    "The vocoder turns a picture of speech into sound. It does most of the arithmetic of a voice, "
    "and here it does the same work in a fraction of the time."
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = f"Needs a few packages more: {HOW_TO_INSTALL}"
    parser.add_argument("--out", default="demo", metavar="DIR", help="folder for the files (demo)")
    parser.add_argument("--text", default=TEXT, help="English text to speak")
    parser.add_argument("--repeats", type=whole_number(1), default=7, help="timed runs each (7)")
    add_threads(parser)
    add_json(parser, "one JSON object")


def run(args: argparse.Namespace) -> int:
    threads = set_threads(args.threads)
    say = (lambda text: None) if args.json else (lambda text: print(text, flush=True))
    voice = load_voice(threads)
    latents = voice.latents(args.text)
    vocoder = describe(voice.decoder)
    audio_s = vocoder.length(latents.shape[2]) / voice.rate_hz
    say(f'Speaking {audio_s:.1f} s: "{args.text}"')
    say(
        f"Voice {voice.name}, trained weights: HiFi-GAN Generator, "
        f"{vocoder.flops(latents.shape[2]) / audio_s / 1e9:.1f} GFLOP per second of audio, "
        f"{threads} CPU threads, float32.\n"
    )
    stock, patched = voice.decoder, copy.deepcopy(voice.decoder)
    start = time.perf_counter()
    patch(patched)
    patch_s = time.perf_counter() - start
    result = _compare(stock, patched, latents, audio_s, args.repeats)
    result.update(
        voice=voice.name,
        text=args.text,
        frames=latents.shape[2],
        audio_s=audio_s,
        rate_hz=voice.rate_hz,
        threads=threads,
        patch_s=patch_s,
        why_not=fell_back(patched),
    )
    result["files"] = _write(Path(args.out), voice.rate_hz, stock, patched, latents)
    why = result["why_not"]
    ok = not why and result["errors"]["patched"]["max_error"] <= FULL_SCALE_LIMIT
    result["ok"] = ok
    if args.json:
        json_line(result)
    else:
        _print(result, say)
    if why:
        note(f"The vocoder was not sped up here: {why}. `vocoder-kernels doctor` tells more.")
    return OK if ok else FAILED_CHECK


def _compare(
    stock: nn.Module, patched: nn.Module, latents: torch.Tensor, audio_s: float, repeats: int
) -> dict:
    seconds = interleaved(
        {"stock": lambda: stock(latents), "patched": lambda: patched(latents)}, repeats
    )
    with torch.inference_mode():
        outputs = {"stock": stock(latents), "patched": patched(latents)}
    errors = against_float64(stock, outputs, (latents,))
    difference = (outputs["patched"].double() - outputs["stock"].double()).abs()
    return {
        "seconds": seconds,
        "rtf": {name: s / audio_s for name, s in seconds.items()},
        "ratio": seconds["stock"] / seconds["patched"],
        "errors": {
            name: {"max_error": e.max_error, "rms_error": e.rms_error, "snr_db": e.snr_db}
            for name, e in errors.items()
        },
        "patched_minus_stock": {
            "max_error": difference.max().item(),
            "rms_error": difference.square().mean().sqrt().item(),
        },
    }


def _write(
    out: Path, rate_hz: int, stock: nn.Module, patched: nn.Module, latents: torch.Tensor
) -> list[str]:
    out.mkdir(parents=True, exist_ok=True)
    with torch.inference_mode():
        audio = {
            name: m(latents).flatten().numpy()
            for name, m in (("stock", stock), ("patched", patched))
        }
    for name, samples in audio.items():
        with wav_writer(out / f"{name}.wav", rate_hz) as wav:
            wav.write(samples)
    draw(out / "demo.png", rate_hz, audio["stock"], audio["patched"])
    return [str(out / name) for name in ("stock.wav", "patched.wav", "demo.png")]


def _print(result: dict, say) -> None:
    names = {"stock": "stock (PyTorch eager)", "patched": "patched (vocoder_kernels)"}
    rows = [
        (
            names[name],
            milliseconds(result["seconds"][name]),
            f"{result['rtf'][name]:.4f}",
            f"{1 / result['rtf'][name]:.1f}x",
            error(result["errors"][name]["max_error"]),
            error(result["errors"][name]["rms_error"]),
            decibels(result["errors"][name]["snr_db"]),
        )
        for name in names
    ]
    heads = ("vocoder", "time", "RTF", "real time", "max error", "rms error", "SNR")
    say(table(heads, rows))
    difference = result["patched_minus_stock"]
    say(
        "\nTime: median of alternating runs. RTF: seconds of computing per second of audio.\n"
        "Errors: against the same vocoder in float64, full scale is 1.\n"
    )
    say(
        f"Patched is {result['ratio']:.2f}x as fast. It differs from stock by at most "
        f"{error(difference['max_error'])} (rms {error(difference['rms_error'])}); one step of a "
        "16-bit wav is 3.1e-05."
    )
    say("Written: " + ", ".join(result["files"]))
