"""Peak memory of one call: ``-m vocoder_kernels.cli.memory_probe VERSION SECONDS THREADS``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch

from .. import patch
from ..families import describe
from ..modules import SAMPLE_RATE_HZ, build
from .measure import fell_back, random_inputs
from .rows import SHORT_S

STATUS, RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def main(version: str, seconds: float, threads: int) -> None:
    """Prints the process's highest resident memory during one call of ``seconds`` of audio."""
    torch.set_num_threads(threads)
    module = build(version)
    if not patch(module):
        raise SystemExit(f"not patched: {fell_back(module)}")
    vocoder = describe(module)
    rate_hz = SAMPLE_RATE_HZ[version]
    with torch.inference_mode():
        module(*random_inputs(vocoder, round(SHORT_S * rate_hz / vocoder.hop_length)))
        inputs = random_inputs(vocoder, round(seconds * rate_hz / vocoder.hop_length))
        RESET.write_text("5")  # forget the peak so far, that of building and packing
        audio = module(*inputs)
    tensors = sum(t.numel() * t.element_size() for t in (*inputs, audio))
    print(json.dumps({"peak_mib": _peak_kib() / 1024, "tensors_mib": tensors / 2**20}))


def _peak_kib() -> int:
    for line in STATUS.read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise SystemExit(f"{STATUS} has no VmHWM")


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3]))
