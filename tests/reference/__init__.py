"""Independent reference implementations and model builders for the tests."""

from .configs import BIGVGAN, CONFIGS, HIFIGAN, configs
from .functional import run
from .models import NORMS, apply_norm_, build, inputs

__all__ = [
    "BIGVGAN",
    "CONFIGS",
    "HIFIGAN",
    "NORMS",
    "apply_norm_",
    "build",
    "configs",
    "inputs",
    "run",
]
