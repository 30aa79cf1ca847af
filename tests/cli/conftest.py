"""Small checkpoints, a way to run commands in this process, and a backend that always exists."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import dataclass

import pytest
import torch
from torch_backend import TorchBackend, installed

from vocoder_kernels import native
from vocoder_kernels.backends import backend_named
from vocoder_kernels.cli import main
from vocoder_kernels.modules import BigVGAN, Generator
from vocoder_kernels.modules.presets import randomise_

MRF = {
    "resblock": "1",
    "resblock_kernel_sizes": (3, 7, 11),
    "resblock_dilation_sizes": ((1, 3, 5),) * 3,
}


def narrow_v2(gin_channels: int = 16) -> Generator:
    """v2's upsampling with 64 channels instead of 512."""
    module = Generator(
        initial_channel=24,
        upsample_rates=(10, 8, 2, 2, 2),
        upsample_initial_channel=64,
        upsample_kernel_sizes=(16, 16, 8, 2, 2),
        gin_channels=gin_channels,
        **MRF,
    )
    return randomise_(module).eval()


def narrow_bigvgan(**changes) -> BigVGAN:
    arguments = {
        **MRF,
        "num_mels": 20,
        "upsample_rates": (4, 2),
        "upsample_initial_channel": 32,
        "upsample_kernel_sizes": (8, 4),
        "use_tanh_at_final": False,
        "use_bias_at_final": False,
        **changes,
    }
    return randomise_(BigVGAN(**arguments)).eval()


BIGVGAN_CONFIG = {
    "resblock": "1",
    "upsample_rates": [4, 2],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "snake_logscale": True,
    "use_tanh_at_final": False,
    "sampling_rate": 24000,
}


@dataclass
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def json_lines(self):
        return [json.loads(line) for line in self.out.splitlines()]


@pytest.fixture
def run(capsys):
    """``run("verify", "--model", "v2")`` in this process; keeps PyTorch's thread count."""
    threads = torch.get_num_threads()

    def call(*arguments) -> Done:
        capsys.readouterr()
        code = main([str(a) for a in arguments])
        return Done(code, *capsys.readouterr())

    yield call
    torch.set_num_threads(threads)


@pytest.fixture
def accelerated():
    """The CPU kernels; where they were not built, a stand-in that computes with PyTorch."""
    here = native.available() and backend_named("cpu") is not None
    with nullcontext() if here else installed(TorchBackend()):
        yield


class SlightlyWrong(TorchBackend):
    """Passes the comparison when patching, but not the limit on errors."""

    def compile(self, vocoder, weights, device, dtype, options):
        louder = {n: 1.0005 * w if n == "conv_post.weight" else w for n, w in weights.items()}
        return super().compile(vocoder, louder, device, dtype, options)


@pytest.fixture
def slightly_wrong():
    with installed(SlightlyWrong()):
        yield
