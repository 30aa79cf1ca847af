"""Vocoders on the device, their float64 audio, and what the contract allows between them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from reference import BIGVGAN, CONFIGS, HIFIGAN, build, inputs, run

from vocoder_kernels import compile
from vocoder_kernels.modules import PRESETS

FLOOR_ULP = 4
TIMES_EAGER = 2.0

_BRIEF = {
    "resblock_kernel_sizes": (3, 5),
    "resblock_dilation_sizes": ((1, 2),) * 2,
    "upsample_rates": (4, 2),
    "upsample_kernel_sizes": (8, 4),
    "upsample_initial_channel": 32,
}
BRIEF = {"hifigan": {**HIFIGAN, **_BRIEF}, "bigvgan": {**BIGVGAN, **_BRIEF}}
"""Few samples per frame and a short receptive field: many windows in little time."""


@dataclass
class Case:
    """A vocoder in eval mode with an input, on the device."""

    config: dict
    model: torch.nn.Module
    x: torch.Tensor
    g: torch.Tensor | None

    @property
    def args(self) -> tuple[torch.Tensor, ...]:
        return (self.x,) if self.g is None else (self.x, self.g)

    def eager(self) -> torch.Tensor:
        with torch.no_grad():
            return type(self.model).forward(self.model, *self.args)

    def exact(self) -> torch.Tensor:
        """float64, from the rounded weights and inputs; computed on the host."""
        state = {name: value.cpu() for name, value in self.model.state_dict().items()}
        return run(state, self.config, *(a.cpu() for a in self.args))

    def engine(self, **options):
        return compile(self.model, **options)


def case(
    config: str | dict, dtype: torch.dtype, frames: int, batch: int = 1, **build_options
) -> Case:
    """``config``: or the name of a small one, or a GPT-SoVITS version with its real width."""
    if isinstance(config, str):
        config = CONFIGS.get(config) or PRESETS[config]
    model = build(config, **build_options).to("cuda", dtype)
    x, g = inputs(config, frames, batch)
    return Case(config, model, x.to("cuda", dtype), None if g is None else g.to("cuda", dtype))


def assert_contract(got: torch.Tensor, eager: torch.Tensor, exact: torch.Tensor) -> None:
    """At most twice eager's error in the same dtype, and a few units in the last place more."""
    assert got.shape == eager.shape == exact.shape and got.dtype == eager.dtype
    ours, theirs = (y.cpu().double() - exact for y in (got, eager))
    floor = FLOOR_ULP * torch.finfo(got.dtype).eps * exact.abs().max()
    for size in (torch.abs, torch.square):
        pooled = torch.max if size is torch.abs else lambda e: e.mean().sqrt()
        mine, limit = pooled(size(ours)), TIMES_EAGER * pooled(size(theirs)) + floor
        assert mine <= limit, f"error {mine:.3g}, allowed {limit:.3g}"


def to_rows(lengths: list[int], x: torch.Tensor, fill: float = float("nan")) -> torch.Tensor:
    """A copy of ``x`` with ``fill`` beyond each row's length."""
    out = x.clone()
    for row, frames in zip(out, lengths):
        row[:, frames:] = fill
    return out
