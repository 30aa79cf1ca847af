"""From a module to an engine, or to the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from ..backends import Backend, choose
from ..families import describe, extract
from ..options import Options
from ..program import Vocoder
from ..runtime.engine import Engine
from .watch import placement


class Unsupported(NotImplementedError):
    """No kernels for this module where it is now; the message says why."""


@dataclass(frozen=True)
class Target:
    """What an engine would be built for: two equal targets can share one by updating weights."""

    vocoder: Vocoder
    backend: str
    device: torch.device
    dtype: torch.dtype

    def __str__(self) -> str:
        dtype = str(self.dtype).replace("torch.", "")
        return f"the {self.backend} kernels for {self.vocoder.family}, {dtype} on {self.device}"


def target_of(module: nn.Module, options: Options) -> tuple[Target, Backend]:
    """What ``module`` needs, read from it anew.

    Raises `Unrecognised` if it is not a vocoder of a known family, `Unsupported` if it is one that
    cannot run as it is placed now.
    """
    vocoder = describe(module)
    place = placement(module)
    if isinstance(place, str):
        raise Unsupported(place)
    device, dtype = place
    backend, support = choose(vocoder, device, dtype, options)
    if backend is None:
        raise Unsupported(support.reason)
    return Target(vocoder, backend.name, device, dtype), backend


def build_engine(module: nn.Module, target: Target, backend: Backend, options: Options) -> Engine:
    """Pack the weights of ``module`` and compile."""
    with torch.inference_mode(False), torch.no_grad():
        weights = extract(module, target.vocoder)
        executable = backend.compile(target.vocoder, weights, target.device, target.dtype, options)
    return Engine(target.vocoder, executable, target.device, target.dtype)


def update_engine(engine: Engine, module: nn.Module) -> None:
    """Take the weights of ``module``, whose vocoder, device and dtype must be the engine's."""
    with torch.inference_mode(False):
        engine.update(extract(module, engine.vocoder))
