"""Stands in for upstream's ``BigVGAN/bigvgan.py``."""

from reference import CONFIGS, models
from torch import nn


class BigVGAN(models.BigVGAN):
    @classmethod
    def from_pretrained(cls, path, use_cuda_kernel=False):
        vocoder = cls(**CONFIGS["bigvgan"])
        models.apply_norm_(models.randomise_(vocoder, 1), "old")
        return vocoder

    def remove_weight_norm(self):
        for layer in self.modules():
            if hasattr(layer, "weight_g"):
                nn.utils.remove_weight_norm(layer)
