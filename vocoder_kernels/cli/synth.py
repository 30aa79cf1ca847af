"""``vocoder-kernels synth``: a mel or latent file to a wav, any length in constant memory."""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable

import torch

from .. import compile
from ..checkpoints import LoadedVocoder, load_condition, load_input, load_vocoder
from ..families import describe
from ..runtime.engine import Engine
from . import OK
from .output import add_json, add_threads, json_line, note, set_threads, whole_number
from .wav import wav_writer

CHUNK_FRAMES = 500
BAR_WIDTH = 30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("mel", help="[C, T] mel or latent: .npy, .npz or .pt")
    parser.add_argument("checkpoint", help="a SoVITS model, vocoder.pth, bigvgan_generator.pt, ...")
    parser.add_argument("-o", "--out", default="out.wav", help="the wav to write (out.wav)")
    parser.add_argument("--speaker", metavar="G", help="speaker vector: .npy, .npz or .pt")
    parser.add_argument("--config", help="the checkpoint's config.json, if it is not beside it")
    parser.add_argument("--rate", type=whole_number(1), metavar="HZ", help="sample rate of the wav")
    parser.add_argument("--float32", action="store_true", help="32-bit float samples, not 16-bit")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--eager", action="store_true", help="the original PyTorch vocoder")
    parser.add_argument(
        "--chunk-frames", type=whole_number(1), default=CHUNK_FRAMES, help="frames at a time (500)"
    )
    add_threads(parser)
    add_json(parser, "one JSON object")


def run(args: argparse.Namespace) -> int:
    set_threads(args.threads)
    loaded = load_vocoder(args.checkpoint, args.config)
    if not args.json:
        for text in loaded.notes:
            note(f"{args.checkpoint}: {text}")
    vocoder = describe(loaded.module)
    rate_hz = args.rate or loaded.rate_hz
    if rate_hz is None:
        raise ValueError(f"{args.checkpoint}: its sample rate is unknown; give it with --rate")
    x = load_input(args.mel, vocoder.head.C_in)
    if x.shape[0] != 1:
        raise ValueError(f"{args.mel}: expected one utterance, got a batch of {x.shape[0]}")
    g = _speaker(args, vocoder)
    out = Path(args.out)
    if not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"{out}: there is no folder {out.absolute().parent}")
    start = time.perf_counter()
    samples, ways = 0, set()
    with wav_writer(out, rate_hz, args.float32) as wav, _progress(args, x.shape[2]) as advance:
        for how, frames, audio in _pieces(args, loaded, x, g):
            ways.add(how)
            wav.write(audio.flatten().float().cpu().numpy())
            samples += audio.numel()
            advance(frames)
    how = ", ".join(ways)
    seconds, audio_s = time.perf_counter() - start, samples / rate_hz
    if args.json:
        json_line(
            {
                "out": str(out),
                "version": loaded.version,
                "frames": x.shape[2],
                "samples": samples,
                "rate_hz": rate_hz,
                "audio_s": audio_s,
                "seconds": seconds,
                "rtf": seconds / audio_s,
                "how": how,
                "notes": loaded.notes,
            }
        )
    else:
        print(
            f"{out}: {audio_s:.2f} s of audio at {rate_hz} Hz in {seconds:.2f} s "
            f"({audio_s / seconds:.1f}x real time, {how})"
        )
    return OK


def _speaker(args: argparse.Namespace, vocoder) -> torch.Tensor | None:
    if vocoder.cond is None:
        if args.speaker:
            raise ValueError(f"{args.checkpoint}: --speaker was given, but it takes no speaker")
        return None
    if not args.speaker:
        raise ValueError(
            f"{args.checkpoint}: this vocoder needs a speaker vector of {vocoder.cond.C_in} "
            "values; give it with --speaker"
        )
    return load_condition(args.speaker, vocoder.cond.C_in)


def _pieces(
    args: argparse.Namespace, loaded: LoadedVocoder, x: torch.Tensor, g: torch.Tensor | None
) -> Iterator[tuple[str, int, torch.Tensor]]:
    """How it was computed, frames done and their audio, in order."""
    module = loaded.module.to(args.device)
    g = g if g is None else g.to(args.device)
    with torch.inference_mode(False), torch.no_grad():
        engine = None if args.eager else _engine(module)
        if engine is None:
            inputs = (x.to(args.device),) if g is None else (x.to(args.device), g)
            yield "original forward", x.shape[2], module(*inputs)
            return
        stream = engine.stream(g, min_frames=args.chunk_frames)
        for start in range(0, x.shape[2], args.chunk_frames):
            piece = x[:, :, start : start + args.chunk_frames].to(args.device)
            yield "patched", piece.shape[2], stream.push(piece)
        yield "patched", 0, stream.flush()
        engine.release()


def _engine(module: torch.nn.Module) -> Engine | None:
    try:
        return compile(module)
    except (NotImplementedError, ImportError) as reason:
        note(f"the original forward runs, because {reason}")
        return None


@contextmanager
def _progress(args: argparse.Namespace, frames: int) -> Iterator[Callable[[int], None]]:
    """A bar on a terminal's stderr for inputs of more than one chunk."""
    if args.json or frames <= args.chunk_frames or not sys.stderr.isatty():
        yield lambda done: None
        return
    total, start = 0, time.perf_counter()

    def advance(done: int) -> None:
        nonlocal total
        total += done
        bar = "#" * math.floor(BAR_WIDTH * total / frames)
        left_s = (time.perf_counter() - start) / max(total, 1) * (frames - total)
        sys.stderr.write(f"\r[{bar:<{BAR_WIDTH}}] {total / frames:4.0%}  {left_s:5.1f} s left ")
        sys.stderr.flush()

    try:
        yield advance
    finally:
        sys.stderr.write("\n")
