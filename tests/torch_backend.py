"""A backend that runs a described vocoder with PyTorch: for tests of everything around kernels."""

from __future__ import annotations

from contextlib import contextmanager
from unittest import mock

import torch
from torch.nn import functional as F

from vocoder_kernels.backends import Support


class TorchExecutable:
    """Row by row, exactly as the description says, in ``dtype``."""

    def __init__(self, vocoder, weights, dtype):
        self.vocoder = vocoder
        self.dtype = dtype
        self.update(weights)
        self.released = False

    def run(self, x, g, lengths, out):
        assert not self.released, "run after release"
        for row, frames in enumerate(lengths):
            condition = None if g is None else g[row : row + 1]
            audio = self._audio(x[row : row + 1, :, :frames], condition)
            out[row, :, : audio.shape[2]] = audio[0]

    def update(self, weights):
        shapes = {name: w.shape for name, w in weights.items()}
        assert shapes == {name: w.shape for name, w in getattr(self, "weights", weights).items()}
        self.weights = {name: w.to(self.dtype, copy=True) for name, w in weights.items()}

    def warmup(self, frames, batch):
        pass

    def release(self):
        self.released = True
        self.weights = {}

    def statistics(self):
        return {"packed_bytes": float(sum(w.nbytes for w in self.weights.values()))}

    def window_times(self):
        return ()

    def explain(self, frames):
        return f"PyTorch, {frames} frames"

    def _audio(self, x, g):
        v = self.vocoder
        x = self._conv(v.head, x)
        if g is not None:
            x = x + self._conv(v.cond, g)
        for stage in v.stages:
            up, w = stage.up, self.weights
            x = F.conv_transpose1d(
                self._act(stage.activation, x),
                w[f"{up.name}.weight"],
                w.get(f"{up.name}.bias"),
                stride=up.stride,
                padding=up.padding,
            )
            x = sum(self._branch(b, x) for b in stage.branches) / len(stage.branches)
        x = self._conv(v.conv_post, self._act(v.activation_post, x))
        return torch.tanh(x) if v.end == "tanh" else x.clamp(-1, 1)

    def _branch(self, units, x):
        for unit in units:
            y = x
            for activation, conv in zip(unit.activations, unit.convs):
                y = self._conv(conv, self._act(activation, y))
            x = x + y
        return x

    def _conv(self, conv, x):
        bias = self.weights.get(f"{conv.name}.bias")
        weight = self.weights[f"{conv.name}.weight"]
        return F.conv1d(x, weight, bias, padding=conv.halo, dilation=conv.dilation)

    def _act(self, activation, x):
        if activation.kind == "none":
            return x
        if activation.kind == "leaky_relu":
            return F.leaky_relu(x, activation.slope)
        channels = x.shape[1]
        up = self.weights["filter.up"].expand(channels, 1, -1)
        down = self.weights["filter.down"].expand(channels, 1, -1)
        alpha = self.weights[f"{activation.name}.alpha"][None, :, None]
        inv_beta = self.weights[f"{activation.name}.inv_beta"][None, :, None]
        x = F.pad(x, (5, 5), mode="replicate")
        x = 2 * F.conv_transpose1d(x, up, stride=2, groups=channels)[..., 15:-15]
        x = F.pad(x + torch.sin(alpha * x) ** 2 * inv_beta, (5, 6), mode="replicate")
        return F.conv1d(x, down, stride=2, groups=channels)


class TorchBackend:
    """``dtypes``: what it claims to support. ``compiled``: every executable it made."""

    name = "torch"

    def __init__(self, dtypes=(torch.float32, torch.float16, torch.bfloat16)):
        self.dtypes = dtypes
        self.compiled = []

    def can_run(self, vocoder, device, dtype):
        return Support(dtype in self.dtypes, f"the torch test backend does not run {dtype}")

    def compile(self, vocoder, weights, device, dtype, options):
        self.compiled.append(TorchExecutable(vocoder, weights, dtype))
        return self.compiled[-1]


@contextmanager
def installed(backend):
    """Within the block, ``backend`` serves every device."""
    with mock.patch("vocoder_kernels.backends.backend_named", return_value=backend):
        yield backend
