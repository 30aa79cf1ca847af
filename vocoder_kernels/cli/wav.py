"""Writing mono wav files piece by piece, whole or not at all."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np

PCM, IEEE_FLOAT = 1, 3
MOST_DATA_BYTES = 2**32 - 64
"""Sizes in a wav header have 32 bits."""


class WavWriter:
    """Takes samples between -1 and 1; ``float32`` stores them as they are, else 16-bit rounds."""

    def __init__(self, file: BinaryIO, rate_hz: int, float32: bool = False):
        self._file = file
        self._rate_hz = rate_hz
        self._float32 = float32
        self._data_bytes = 0
        file.write(self._header())

    def write(self, samples: np.ndarray) -> None:
        if self._float32:
            data = samples.astype("<f4").tobytes()
        else:
            data = np.rint(samples.clip(-1.0, 1.0) * 32767).astype("<i2").tobytes()
        self._data_bytes += len(data)
        if self._data_bytes > MOST_DATA_BYTES:
            raise ValueError("a wav file holds at most 4 GiB; split the input")
        self._file.write(data)

    def finish(self) -> None:
        self._file.seek(0)
        self._file.write(self._header())

    def _header(self) -> bytes:
        size = 4 if self._float32 else 2
        kind = IEEE_FLOAT if self._float32 else PCM
        form = struct.pack("<HHIIHH", kind, 1, self._rate_hz, self._rate_hz * size, size, 8 * size)
        chunks = [(b"fmt ", form)]
        if self._float32:
            chunks.append((b"fact", struct.pack("<I", self._data_bytes // size)))
        body = b"WAVE" + b"".join(n + struct.pack("<I", len(c)) + c for n, c in chunks)
        body += b"data" + struct.pack("<I", self._data_bytes)
        return b"RIFF" + struct.pack("<I", len(body) + self._data_bytes) + body


@contextmanager
def wav_writer(path: Path, rate_hz: int, float32: bool = False) -> Iterator[WavWriter]:
    """The file appears under its name when the block ends well, and not at all otherwise."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as file:
            writer = WavWriter(file, rate_hz, float32)
            yield writer
            writer.finish()
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
