"""The vocoder as data."""

from .layers import ALIAS_FREE_TAPS, Activation, Conv1d, ConvTranspose1d, ResidualUnit, Stage
from .vocoder import Scale, Vocoder

__all__ = [
    "ALIAS_FREE_TAPS",
    "Activation",
    "Conv1d",
    "ConvTranspose1d",
    "ResidualUnit",
    "Scale",
    "Stage",
    "Vocoder",
]
