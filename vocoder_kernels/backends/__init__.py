"""Which implementation runs a vocoder, and why."""

from __future__ import annotations

from importlib import import_module

import torch

from ..options import Options
from ..program import Vocoder
from .base import Backend, Executable, Support

BACKENDS = {"cpu": "cpu.backend", "cuda": "cuda.backend"}


def backend_named(name: str) -> Backend:
    return import_module(f"{__name__}.{BACKENDS[name]}").BACKEND


def choose(
    vocoder: Vocoder, device: torch.device, dtype: torch.dtype, options: Options
) -> tuple[Backend | None, Support]:
    """The backend for a model on ``device``, or None and the reason."""
    wanted = device.type if options.backend == "auto" else options.backend
    if wanted not in BACKENDS:
        return None, Support(False, f"no kernels for device {device}; there are cpu and cuda")
    if wanted != device.type:
        return None, Support(
            False, f"backend {wanted!r} was asked for, but the model is on {device}"
        )
    backend = backend_named(wanted)
    support = backend.can_run(vocoder, device, dtype)
    return (backend if support else None), support


__all__ = ["BACKENDS", "Backend", "Executable", "Support", "backend_named", "choose"]
