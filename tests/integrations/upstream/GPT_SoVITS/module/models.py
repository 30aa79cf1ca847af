"""Stands in for upstream's ``module/models.py``: the same classes and calls, few channels."""

import torch
from reference import models as reference
from torch import nn

LATENT, CODES = 12, 32


class Generator(reference.Generator):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        reference.randomise_(self, 0)
        reference.apply_norm_(self, "old")

    def remove_weight_norm(self):
        for layer in self.modules():
            if hasattr(layer, "weight_g"):
                nn.utils.remove_weight_norm(layer)


class SynthesizerTrn(nn.Module):
    """v1, v2: latent frames out of codes, then ``dec``, whose weight norm stays."""

    def __init__(self, gin_channels=10, **hps):
        super().__init__()
        self.upsample_rates = (4, 3, 2)
        self.embedding = nn.Embedding(CODES, LATENT)
        self.ref_enc = nn.Linear(4, gin_channels)
        self.dec = Generator(
            LATENT, "1", (3, 5), ((1, 3, 5),) * 2, self.upsample_rates, 32, (8, 7, 4), gin_channels
        )

    @torch.no_grad()
    def decode(self, codes, phones, refer, speed=1.0):
        z = self.embedding(codes[0, 0])[None].repeat_interleave(2, 1).transpose(1, 2)
        mask = torch.ones_like(z[:, :1])
        return self.dec(z * mask, g=self.ref_enc(refer.to(z))[..., None])


class SynthesizerTrnV3(nn.Module):
    """v3, v4: mel frames out of codes; the vocoder is not part of it."""

    def __init__(self, **hps):
        super().__init__()
        self.embedding = nn.Embedding(CODES, 10)

    @torch.no_grad()
    def mel(self, codes):
        return self.embedding(codes[0, 0])[None].repeat_interleave(4, 1).transpose(1, 2)
