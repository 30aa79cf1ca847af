"""The published classes themselves, out of packages installed without their dependencies.

``pip install --no-deps -r tests/upstream.txt`` brings them. Only the few files that define a
vocoder are wanted of each package; whatever else these import (audio readers, training tools) is
stood in for by empty modules while they load.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from contextlib import contextmanager
from pathlib import Path

import pytest
from torch import nn

HOW_TO_INSTALL = "pip install --no-deps -r tests/upstream.txt"
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
def empty_modules():
    finder = _EmptyModules()
    sys.meta_path.append(finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in finder.made:
            sys.modules.pop(name, None)


def folder_of(package: str) -> Path:
    """Where ``package`` is installed; skips the test if it is not."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        pytest.skip(f"needs the package {package}: {HOW_TO_INSTALL}")
    return Path(next(iter(spec.submodule_search_locations)))


def load(package: str, module: str) -> types.ModuleType:
    folder_of(package)
    with empty_modules():
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
    sys.path.insert(0, str(folder_of("GPT_SoVITS")))
    before = set(sys.modules)
    try:
        with empty_modules():
            models = importlib.import_module("module.models")
    finally:
        sys.path.pop(0)
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in SHARED_NAMES:
                del sys.modules[name]
    return models.Generator(**config)


GENERATORS = {"gsv-tts-lite": lite_generator, "gpt-sovits-cpufast": cpufast_generator}
