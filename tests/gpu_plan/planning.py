"""Lowering for GPUs that are not there."""

from __future__ import annotations

from functools import cache

import torch
from reference import build

from vocoder_kernels.backends.cuda.choose import Choice, Chooser
from vocoder_kernels.backends.cuda.lower import lower
from vocoder_kernels.backends.cuda.steps import Numerics
from vocoder_kernels.families import describe
from vocoder_kernels.modules import PRESETS
from vocoder_kernels.modules import build as build_preset
from vocoder_kernels.ops.support import Target

A100 = Target("cuda", 80, 108, 166912)
FUSED_CHANNELS = {"residual_unit": (16, 24, 32, 48, 64, 96), "residual_branch": (16, 24, 32)}


class EveryKernel(Chooser):
    """Takes the CUDA core for built, whose kernels know the narrow channel counts of the models."""

    def __init__(self) -> None:
        super().__init__(A100)

    def find(self, op, desc):
        if op in FUSED_CHANNELS and (
            desc.C not in FUSED_CHANNELS[op] or desc.dtype == torch.float32
        ):
            return None, f"no fused kernel for {desc.C} channels"
        cuda = op in FUSED_CHANNELS or op in ("tail", "alias_free")
        return Choice(op, "cuda" if cuda else "triton"), ""


class NoFusion(EveryKernel):
    """The operations that every implementation has."""

    def find(self, op, desc):
        if op in FUSED_CHANNELS or (op == "tail" and desc.snake):
            return None, "fused kernels are not there"
        return Choice(op, "triton"), ""


@cache
def _version(name):
    return describe(build_preset(name))


def vocoder(name_or_config):
    """Of a GPT-SoVITS version, or of a configuration."""
    if isinstance(name_or_config, str):
        return _version(name_or_config)
    return describe(build(name_or_config))


def program(vocoder, dtype=torch.float16, choose=None, conditioned=None):
    if conditioned is None:
        conditioned = vocoder.cond is not None
    return lower(vocoder, Numerics(dtype), conditioned, choose or EveryKernel())


__all__ = ["A100", "EveryKernel", "NoFusion", "PRESETS", "program", "vocoder"]
