"""The published classes themselves, out of packages in a folder of their own, without dependencies.

``pip install --no-deps --target tests/.upstream -r tests/upstream.txt`` brings them. Only the few
files that define a vocoder are wanted of each package; whatever else these import (audio readers,
training tools) is stood in for by empty modules while they load.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

FOLDER = Path(__file__).resolve().parents[1] / ".upstream"
HOW_TO_INSTALL = "pip install --no-deps --target tests/.upstream -r tests/upstream.txt"
SHARED_NAMES = ("module", "text")
"""Top-level names of GPT-SoVITS' own modules, too common to stay importable."""


class _Anything(type):
    def __getattr__(cls, name: str):
        if name.startswith("__"):
            raise AttributeError(name)
        return cls

    def __call__(cls, *args, **kwargs):
        return cls if cls is Absent else super().__call__(*args, **kwargs)


class Absent(metaclass=_Anything):
    """Whatever a missing module would have had: base class, decorator, function."""

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__()


class _EmptyModules:
    """Finds, last of all, every module that nothing else found."""

    def __init__(self):
        self.made: list[str] = []

    def find_spec(self, name, path=None, target=None):
        self.made.append(name)
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec):
        module = types.ModuleType(spec.name)
        module.__getattr__ = lambda name: getattr(Absent, name)
        module.__all__ = []
        return module

    def exec_module(self, module):
        pass


@contextmanager
def importing_from(folder: Path):
    """Modules in ``folder`` go first; those that are nowhere are empty ones."""
    finder = _EmptyModules()
    sys.meta_path.append(finder)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


def must_have(package: str) -> None:
    if not (FOLDER / package).is_dir():
        pytest.skip(f"needs the package {package}: {HOW_TO_INSTALL}")


def load(package: str, module: str) -> types.ModuleType:
    must_have(package)
    with importing_from(FOLDER):
        return importlib.import_module(f"{package}.{module}")


def nvidia_bigvgan(config: dict) -> nn.Module:
    """``bigvgan``: NVIDIA's v2.4, with its old-style weight norm."""
    bigvgan = load("bigvgan", "bigvgan")
    module = bigvgan.BigVGAN(bigvgan.AttrDict(config), use_cuda_kernel=False)
    assert not issubclass(type(module), _Anything) and isinstance(module, nn.Module)
    return module


def lite_generator(config: dict) -> nn.Module:
    """``gsv-tts-lite``: GPT-SoVITS' ``Generator``; it knows resblock "1" alone."""
    return load("gsv_tts", "GPT_SoVITS.SoVITS.models").Generator(**config)


def cpufast_generator(config: dict) -> nn.Module:
    """``gpt-sovits-cpufast``: GPT-SoVITS' own tree, whose modules import each other by top-level
    names."""
    must_have("GPT_SoVITS")
    before = set(sys.modules)
    try:
        with importing_from(FOLDER / "GPT_SoVITS"):
            models = importlib.import_module("module.models")
    finally:
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in SHARED_NAMES:
                del sys.modules[name]
    return models.Generator(**config)


GENERATORS = {"gsv-tts-lite": lite_generator, "gpt-sovits-cpufast": cpufast_generator}
