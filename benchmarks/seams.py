#!/usr/bin/env python3
"""What is lost where chunks of audio are joined: upstream's ways, bare chunks, and ours.

    python benchmarks/seams.py --model v3 voice --plot docs/seams.png

The reference is the whole utterance in one eager call, in float32. "v3" is the BigVGAN of
GPT-SoVITS v3 with random weights, "v2" its HiFi-GAN generator likewise, "voice" a trained HiFi-GAN
voice speaking a sentence (that of `vocoder-kernels demo`). Chunks agree perfectly where they
overlap, so that what is measured is the joining alone.

Ways: "bare chunks", one behind the other, as the classic integration guide makes them; "overlap of
n": chunks that share n frames are vocoded apart and cross-faded after a search for the best lag, as
upstream's TTS.py does (n = 12 between mel chunks of v3 and v4, n = 4 latent frames when streaming
v1 and v2); "no search": the same, in place; "ours": windows of the same size; "our stream": pieces
pushed as they come.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

import vocoder_kernels
from vocoder_kernels.cli.output import json_line, table
from vocoder_kernels.modules.presets import SAMPLE_RATE_HZ, build

SEARCH_SAMPLES = 320
SENTENCE = (
    "Speech synthesis turns written text into sound. The last step does most of the arithmetic, "
    "so it decides how long a listener waits."
)


@dataclass(frozen=True)
class Case:
    """A vocoder, its input ``x: [1, C, T]`` and how upstream cuts that kind of input."""

    name: str
    vocoder: Callable[..., torch.Tensor]
    x: torch.Tensor
    g: torch.Tensor | None
    rate_hz: int
    overlap_frames: int
    streams: bool

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            return self.vocoder(x)[0, 0] if self.g is None else self.vocoder(x, g=self.g)[0, 0]


@dataclass(frozen=True)
class Joined:
    """One way to make the utterance out of parts. ``lag_samples``: how far the search for the best
    lag has moved the end."""

    way: str
    error: np.ndarray
    lag_samples: int = 0


def make_case(name: str, frames: int) -> Case:
    if name == "voice":
        from vocoder_kernels.cli.voice import load_voice

        voice = load_voice(torch.get_num_threads())
        latents = voice.latents(SENTENCE)[:, :, :frames]
        return Case("voice, trained", voice.decoder, latents, None, voice.rate_hz, 4, True)
    vocoder = build(name)
    generator = torch.Generator().manual_seed(1)
    channels = vocoder.conv_pre.in_channels
    x = torch.randn(1, channels, frames // 4 + 2, generator=generator)
    x = F.interpolate(x, scale_factor=4, mode="linear")[:, :, :frames]  # as smooth as speech
    cond = getattr(vocoder, "cond", None)
    g = None if cond is None else torch.randn(1, cond.in_channels, 1, generator=generator)
    mel = name in ("v3", "v4")
    title = f"{name}, random weights"
    return Case(title, vocoder, x, g, SAMPLE_RATE_HZ[name], 12 if mel else 4, not mel)


def bare(case: Case, chunk: int) -> torch.Tensor:
    return torch.cat([case(part) for part in case.x.split(chunk, 2)])


def overlapped(case: Case, chunk: int, hop: int) -> list[torch.Tensor]:
    """Audio of chunks that share frames; mel chunks are vocoded in one call, one behind the other,
    streamed ones each for itself."""
    overlap = case.overlap_frames
    starts = range(0, max(1, case.x.shape[2] - overlap), chunk - overlap)
    chunks = [case.x[:, :, start : start + chunk] for start in starts]
    if case.streams:
        return [case(part) for part in chunks]
    return list(case(torch.cat(chunks, 2)).split([part.shape[2] * hop for part in chunks]))


def cross_faded(
    parts: list[torch.Tensor], shared: int, search_samples: int
) -> tuple[torch.Tensor, int]:
    """Each end faded over ``shared`` samples into the next start, moved by the lag at which they
    correlate best; and the sum of the lags."""
    out, lags = parts[0], 0
    fade_in = torch.hann_window(2 * shared)[:shared]
    for part in parts[1:]:
        tail, head = out[-shared:], part[: shared + search_samples]
        correlation = F.conv1d(head.view(1, 1, -1), tail.view(1, 1, -1)).flatten()
        energy = F.conv1d(head.view(1, 1, -1) ** 2, torch.ones(1, 1, shared)).flatten() + 1e-8
        lag = int((correlation / energy.sqrt()).argmax())
        blend = fade_in * part[lag : lag + shared] + (1 - fade_in) * tail
        out = torch.cat([out[:-shared], blend, part[lag + shared :]])
        lags += lag
    return out, lags


def streamed(case: Case, engine: vocoder_kernels.Engine, piece: int) -> torch.Tensor:
    stream = engine.stream(case.g)
    parts = [stream.push(part) for part in case.x.split(piece, 2)]
    return torch.cat([*parts, stream.flush()], 2)[0, 0]


def measure(case: Case, chunk: int) -> tuple[np.ndarray, list[Joined]]:
    """The whole utterance, and the error of every way to make it out of ``chunk`` frames each."""
    whole = case(case.x)
    engine = vocoder_kernels.compile(case.vocoder, chunk_frames=chunk)
    hop = engine.vocoder.hop_length
    parts, shared = overlapped(case, chunk, hop), case.overlap_frames * hop
    made = [
        ("bare chunks", bare(case, chunk), 0),
        (f"overlap of {case.overlap_frames}", *cross_faded(parts, shared, SEARCH_SAMPLES)),
        ("no search", *cross_faded(parts, shared, 0)),
        ("ours", engine(case.x, case.g)[0, 0], 0),
        ("our stream", streamed(case, engine, chunk), 0),
    ]
    joined = []
    for way, audio, lag in made:
        length = min(audio.numel(), whole.numel())
        error = (audio[:length] - whole[:length]).numpy()
        joined.append(Joined(way, error, lag))
    return whole.numpy(), joined


def summary(case: Case, whole: np.ndarray, joined: list[Joined]) -> list[dict]:
    rms = np.sqrt(np.mean(whole.astype(np.float64) ** 2))
    rows = []
    for one in joined:
        error = one.error.astype(np.float64)
        worst = np.abs(error).max()
        rows.append(
            {
                "model": case.name,
                "way": one.way,
                "max_error": worst,
                "max_error_db_of_signal_rms": 20 * np.log10(max(worst, 1e-12) / rms),
                "wrong_samples_percent": 100 * np.mean(np.abs(error) > 1e-3 * rms),
                "lag_samples": one.lag_samples,
            }
        )
    return rows


def draw(path: Path, results: list[tuple[Case, np.ndarray, list[Joined]]]) -> None:
    """The error's envelope over time, in dB of the signal's RMS, one panel per model."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(results), 1, figsize=(9, 2.9 * len(results)), layout="constrained", squeeze=False
    )
    for axis, (case, whole, joined) in zip(axes[:, 0], results):
        rms = np.sqrt(np.mean(whole.astype(np.float64) ** 2))
        block = case.rate_hz // 200
        for one in joined:
            blocks = len(one.error) // block
            peaks = np.abs(one.error[: blocks * block]).reshape(blocks, block).max(1)
            seconds = (np.arange(blocks) + 0.5) * block / case.rate_hz
            decibels = 20 * np.log10(np.maximum(peaks, 1e-9) / rms)
            axis.plot(seconds, decibels, label=one.way, linewidth=1)
        axis.axhline(0, color="grey", linewidth=0.6, linestyle=":")
        axis.set_title(f"{case.name}: error against the whole utterance in one eager call")
        axis.set_ylabel("dB of the signal's RMS")
        axis.set_xlim(0, len(whole) / case.rate_hz)
        axis.set_ylim(top=45)  # leaves the legend its own room
        axis.legend(loc="upper right", fontsize="small", ncols=len(joined))
    axes[-1, 0].set_xlabel("seconds")
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    models = ("v2", "v2pro", "v2proplus", "v3", "v4", "voice")
    parser.add_argument("--model", nargs="+", choices=models, default=["v3", "voice"])
    parser.add_argument("--frames", type=int, default=400, help="length of the utterance")
    parser.add_argument("--chunk", type=int, default=100, help="frames per chunk")
    parser.add_argument("--plot", type=Path, metavar="PNG")
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")
    args = parser.parse_args(argv)
    if not 2 * 12 < args.chunk <= args.frames:
        parser.error(f"--chunk: expected 25 to {args.frames}, got {args.chunk}")
    results = []
    for name in args.model:
        case = make_case(name, args.frames)
        results.append((case, *measure(case, args.chunk)))
    rows = [row for result in results for row in summary(*result)]
    if args.json:
        for row in rows:
            json_line(row)
    else:
        heads = ("model", "way", "max error", "dB of RMS", "wrong samples", "lag")
        cells = [
            (
                r["model"],
                r["way"],
                f"{r['max_error']:.1e}",
                f"{r['max_error_db_of_signal_rms']:.0f}",
                f"{r['wrong_samples_percent']:.1f}%",
                str(r["lag_samples"]),
            )
            for r in rows
        ]
        print(table(heads, cells))
    if args.plot:
        draw(args.plot, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
