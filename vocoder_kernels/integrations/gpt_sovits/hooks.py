"""Vocoders and pipelines patched as they are constructed, in scripts that know nothing of it.

The constructors of three classes are wrapped right after the module that defines them has been
executed: the vocoders' ``Generator`` and ``BigVGAN``, and the pipeline ``TTS``. Constructors,
because upstream keeps vocoders in globals of scripts, in speaker lists and in pipelines, replaces
them at every change of weights, and hands its loaders to a web framework before anyone could wrap
them: all of them construct. Nothing of PyTorch is touched, and no other class.

A module is recognised by the last part of its name and by what it defines, since upstream imports
``module.models`` and ``GPT_SoVITS.module.models`` alike, and forks move the files.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Any

from ...options import Options

if TYPE_CHECKING:
    from ...patching import PatchReport

logger = logging.getLogger("vocoder_kernels")

VOCODERS = {"models": "Generator", "bigvgan": "BigVGAN"}
"""Last part of a module's name: the vocoder class that it may define."""

PIPELINES = {"TTS": "TTS"}


class Patcher:
    """Patches what is constructed; counts it."""

    def __init__(self, options: Options):
        self.options = options
        self.constructed = 0

    def visit(self, module: ModuleType) -> None:
        """Wrap the constructor of the class that ``module`` defines, if it is one of ours."""
        last = module.__name__.rpartition(".")[2]
        for known, after in ((VOCODERS, self._vocoder), (PIPELINES, self._pipeline)):
            found = vars(module).get(known.get(last, ""))
            if isinstance(found, type) and found.__module__ == module.__name__:
                _after_construction(found, after)

    def _vocoder(self, vocoder: Any) -> None:
        from ...families import family_of
        from ...patching.reports import REFUSED

        if family_of(vocoder) is None:
            return
        self.constructed += 1
        name = type(vocoder).__name__
        outcome = self._patch(vocoder)
        for state in () if outcome is None else outcome:
            if state.status == REFUSED:
                logger.info("%s is left as it is: %s", name, state.why)
            else:  # its weights are loaded later; kernels are built at its first call
                logger.info("%s constructed and rebound", name)

    def _pipeline(self, pipeline: Any) -> None:
        from ...patching.pipelines import is_pipeline

        if is_pipeline(pipeline):
            self.constructed += 1
            outcome = self._patch(pipeline)
            if outcome is not None:
                logger.info("%s as loaded:\n%s", type(pipeline).__name__, outcome)

    def _patch(self, model: Any) -> PatchReport | None:
        from ...patching import patch

        try:
            return patch(model, self.options)
        except Exception:
            if self.options.strict:
                raise
            logger.exception("%s is left as it was, because patching failed", type(model).__name__)
            return None


class _Finder(importlib.abc.MetaPathFinder):
    """Finds modules as the others do, and visits those of a known name after their execution."""

    def __init__(self, visit: Callable[[ModuleType], None]):
        self._visit = visit
        self._names = {*VOCODERS, *PIPELINES}
        self._searching: set[str] = set()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname.rpartition(".")[2] not in self._names or fullname in self._searching:
            return None
        self._searching.add(fullname)
        try:
            for finder in sys.meta_path:
                find = getattr(finder, "find_spec", None)
                spec = None if finder is self or find is None else find(fullname, path, target)
                if spec is not None:
                    self._watch(spec)
                    return spec
        finally:
            self._searching.discard(fullname)
        return None

    def _watch(self, spec: importlib.machinery.ModuleSpec) -> None:
        loader: Any = spec.loader
        execute = getattr(loader, "exec_module", None)
        if execute is None or isinstance(loader, type):
            return

        def execute_and_visit(module: ModuleType) -> None:
            execute(module)
            self._visit(module)

        loader.exec_module = execute_and_visit


@contextmanager
def installed(options: Options) -> Iterator[Patcher]:
    """While the block runs, modules that are imported have their vocoders patched."""
    patcher = Patcher(options)
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and not module.__name__.startswith("vocoder_kernels."):
            patcher.visit(module)
    finder = _Finder(patcher.visit)
    sys.meta_path.insert(0, finder)
    try:
        yield patcher
    finally:
        sys.meta_path.remove(finder)


def _after_construction(cls: type, after: Callable[[Any], None]) -> None:
    construct: Callable[..., None] = cls.__init__  # type: ignore[misc]

    @functools.wraps(construct)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        construct(self, *args, **kwargs)
        if type(self) is cls:  # a subclass is not complete yet
            after(self)

    cls.__init__ = __init__  # type: ignore[misc]
