"""A small GPT-SoVITS installation, in this process and as a folder of scripts."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from integrations.processes import Service, start

UPSTREAM = Path(__file__).resolve().parent / "upstream"
TOP_LEVEL = ("BigVGAN", "GPT_SoVITS", "TTS_infer_pack", "module")


def write_config(folder: Path, weights: str, version: str, **top_level) -> str:
    path = folder / "tts_infer.yaml"
    custom = {
        "device": "cpu",
        "is_half": False,
        "version": version,
        "vits_weights_path": str(weights),
    }
    path.write_text(yaml.dump({**top_level, "custom": custom}), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="package", autouse=True)
def one_thread():
    """For models this small, more threads only wait for each other, above all on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def upstream(tmp_path, monkeypatch):
    """The stand-ins imported afresh: ``TTS``, ``TTS_Config``, ``save_weights``, ``models`` …"""
    monkeypatch.syspath_prepend(str(UPSTREAM / "GPT_SoVITS"))
    tts = importlib.import_module("TTS_infer_pack.TTS")
    yield tts
    for name in [n for n in sys.modules if n.partition(".")[0] in TOP_LEVEL]:
        del sys.modules[name]


@pytest.fixture
def make_tts(upstream, tmp_path):
    """A live pipeline of a version; ``top_level`` are keys of its ``tts_infer.yaml``."""

    def make(version: str = "v2", **top_level):
        weights = upstream.save_weights(tmp_path / f"{version}.pth", version)
        return upstream.TTS(
            upstream.TTS_Config(write_config(tmp_path, weights, version, **top_level))
        )

    return make


@pytest.fixture
def installation(upstream, tmp_path):
    """A copy of the tree with weights and configuration, to run scripts in."""
    root = tmp_path / "GPT-SoVITS"
    shutil.copytree(UPSTREAM, root, ignore=shutil.ignore_patterns("__pycache__"))
    weights = {
        version: upstream.save_weights(tmp_path / f"{version}.pth", version)
        for version in ("v2", "v3", "v4")
    }

    def configure(version: str = "v2", **top_level) -> str:
        return write_config(root / "GPT_SoVITS" / "configs", weights[version], version, **top_level)

    configure()
    return SimpleNamespace(root=root, weights=weights, configure=configure)


@pytest.fixture
def serve(installation):
    started = []

    def serve(*before, version="v2", **top_level):
        config = installation.configure(version, **top_level)
        process = start([*before, "api_v2.py", "-c", config, "-p", "0"], installation.root)
        started.append(process)
        return Service(process)

    yield serve
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()
