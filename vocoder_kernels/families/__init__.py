"""Recognition of vocoders by structure: one file per family, one row each in `FAMILIES`."""

from __future__ import annotations

from typing import Callable

import torch
from torch import nn

from ..program import Vocoder
from . import bigvgan, hifigan
from .structure import Unrecognised

Weights = dict[str, torch.Tensor]

FAMILIES: dict[str, tuple[Callable[[nn.Module], bool], Callable, Callable]] = {
    "hifigan": (hifigan.looks_like, hifigan.describe, hifigan.extract),
    "bigvgan": (bigvgan.looks_like, bigvgan.describe, bigvgan.extract),
}


def family_of(module: nn.Module) -> str | None:
    """Name of the family whose outline ``module`` has (``conv_pre``, ``ups``, ``resblocks``,
    ``conv_post``), or None if it is no vocoder at all."""
    for name, (looks_like, _, _) in FAMILIES.items():
        if looks_like(module):
            return name
    return None


def describe(module: nn.Module) -> Vocoder:
    """The module as data; every size is read from the module.

    Raises `Unrecognised` with the reason if anything in it deviates from its family.
    """
    name = family_of(module)
    if name is None:
        raise Unrecognised(
            f"{type(module).__name__} has no vocoder's outline: expected conv_pre, ups, resblocks "
            "and conv_post"
        )
    return FAMILIES[name][1](module)


def extract(module: nn.Module, vocoder: Vocoder) -> Weights:
    """Weights of a described module under the vocoder's layer names: weight norm folded, snake
    parameters out of their logs. On the module's device and in its dtype, but for what is computed
    from half precision: that is float32."""
    with torch.no_grad():
        return FAMILIES[vocoder.family][2](module, vocoder)


__all__ = ["FAMILIES", "Unrecognised", "Weights", "describe", "extract", "family_of"]
