"""The demo's picture: both spectrograms, and how little they differ."""

from __future__ import annotations

from pathlib import Path

import numpy as np

WINDOW, HOP = 1024, 256
LOWEST_DB = -100.0
SILENT_DB = -220.0


def draw(path: Path, rate_hz: int, stock: np.ndarray, patched: np.ndarray) -> None:
    """Spectrograms of both and of their difference, all relative to a full-scale sine."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    difference = patched.astype(np.float64) - stock.astype(np.float64)
    panels = (
        ("stock: PyTorch eager", stock, LOWEST_DB, 0.0, "magma"),
        ("patched: vocoder_kernels", patched, LOWEST_DB, 0.0, "magma"),
        (
            f"difference, patched - stock (largest {np.abs(difference).max():.1e} of full scale; "
            "mind the scale)",
            difference,
            SILENT_DB,
            LOWEST_DB,
            "viridis",
        ),
    )
    figure = Figure(figsize=(11, 9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(panels), 1, sharex=True)
    extent = (0, len(stock) / rate_hz, 0, rate_hz / 2000)
    for axis, (title, samples, lowest, highest, colours) in zip(axes, panels):
        image = axis.imshow(
            _spectrogram_db(samples),
            origin="lower",
            aspect="auto",
            extent=extent,
            vmin=lowest,
            vmax=highest,
            cmap=colours,
        )
        axis.set_title(title, loc="left")
        axis.set_ylabel("frequency, kHz")
        figure.colorbar(image, ax=axis, label="dB of full scale", pad=0.01)
    axes[-1].set_xlabel("time, s")
    figure.savefig(path)


def _spectrogram_db(samples: np.ndarray) -> np.ndarray:
    """``[WINDOW // 2 + 1, frames]``; a full-scale sine is 0 dB."""
    padded = np.pad(samples.astype(np.float64), WINDOW // 2)
    window = np.hanning(WINDOW)
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP] * window
    magnitude = np.abs(np.fft.rfft(frames, axis=1)).T * 2 / window.sum()
    return 20 * np.log10(np.maximum(magnitude, 10 ** (SILENT_DB / 20)))
