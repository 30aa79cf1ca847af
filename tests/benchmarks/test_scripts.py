"""The benchmark scripts, and the graph that peers are given."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.conftest import narrow_v2

from vocoder_kernels.cli import peers
from vocoder_kernels.families import describe, extract
from vocoder_kernels.modules import build

SCRIPTS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("name", ["models", "operations", "peers"])
def test_scripts_take_the_options_of_bench(name):
    command = [sys.executable, SCRIPTS / f"{name}.py", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "--threads" in done.stdout


@pytest.mark.parametrize("title,package,compile_peer", peers.PEERS_BY_TITLE)
@pytest.mark.parametrize("gin_channels", [0, 16])
def test_peers_compute_the_same_vocoder(title, package, compile_peer, gin_channels):
    for needed in ("onnx", package):
        pytest.importorskip(needed, reason=f"{needed} is not installed")
    module = narrow_v2(gin_channels)
    vocoder = describe(module)
    inputs = [torch.randn(1, 24, 9)] + ([torch.randn(1, 16, 1)] if gin_channels else [])
    arrays = {n: t.numpy() for n, t in zip(("x", "g"), inputs)}
    call = compile_peer(peers.onnx_model(vocoder, extract(module, vocoder), arrays), arrays, 1)
    with torch.inference_mode():
        expected = module(*inputs).numpy()
    np.testing.assert_allclose(call(), expected, atol=1e-5, rtol=0)


def test_a_model_without_the_emulator_says_so(tmp_path):
    environ = {**os.environ, "VOCODER_KERNELS_GPUSIM": str(tmp_path)}
    command = [sys.executable, SCRIPTS / "modelled_triton.py"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    assert done.returncode == 1 and f"no GPU emulator at {tmp_path}" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("version, operators", [("v2", 256), ("v4", 254)])
def test_eager_traffic_counts_the_published_operators(version, operators, monkeypatch):
    """Of the published classes, counted on an emulated GPU; and bytes grow with the input alone."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from eager_traffic import eager_traffic

    vocoder = describe(build(version))
    short, long, longer = (eager_traffic(version, vocoder, n, torch.float16) for n in (8, 16, 24))
    assert short.operators == long.operators == operators
    assert long.nbytes - short.nbytes == longer.nbytes - long.nbytes > 0
    weights_nbytes = 2 * vocoder.parameter_count
    assert 2 * short.nbytes - long.nbytes == pytest.approx(weights_nbytes, rel=0.01)


def test_eager_traffic_counts_an_expanded_tensor_once(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    from eager_traffic import count_traffic

    x = torch.empty(4, 1, 8, device="meta", dtype=torch.float16)
    traffic = count_traffic(lambda: x[:, :, 2:].expand(4, 3, 6) + 1)
    assert traffic.operators == 1
    assert traffic.nbytes == 2 * (4 * 8 + 4 * 3 * 6)
