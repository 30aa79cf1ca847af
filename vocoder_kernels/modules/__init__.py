"""Plain PyTorch vocoders with the upstream parameter names: what the command line loads checkpoints
into and what benchmarks compare with. The engine never imports this package."""

from .bigvgan import BigVGAN
from .hifigan import Generator
from .presets import PRESETS, SAMPLE_RATE_HZ, build

__all__ = ["PRESETS", "SAMPLE_RATE_HZ", "BigVGAN", "Generator", "build"]
