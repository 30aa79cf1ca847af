"""The life of one patched vocoder: build, watch, run, fall back."""

from __future__ import annotations

import logging
import threading
import warnings
import weakref
from collections import Counter
from dataclasses import replace
from types import MethodType
from typing import Any, Callable

import torch
from torch import nn

from ..families import Unrecognised, family_of
from ..options import Options
from ..runtime.batcher import Batcher
from ..runtime.engine import Engine
from . import conditions
from .arguments import Arguments, Signature
from .build import Target, Unsupported, build_engine, target_of, update_engine
from .discover import ITSELF
from .pipelines import switched_on
from .rebinding import Rebound
from .reports import FELL_BACK, PATCHED, ModuleReport
from .verification import difference
from .watch import Snapshot, placement, unwatchable

logger = logging.getLogger("vocoder_kernels")

MOST_FAILURES = 3
"""Failures in a row after which a module runs its original forward until it is patched again."""

OUT_OF_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)


class Binding:
    """One module's engine, its options and counters. Calls may come from many threads.

    The `Rebound` in the module owns its binding, nothing else does: all of it dies with the module.
    """

    def __init__(self, module: nn.Module, path: str, options: Options):
        rebound = Rebound(module, "forward", self._call)
        self.path = path
        self.options = options
        self._module = weakref.ref(module)
        self._rebound = weakref.ref(rebound)
        self._pipeline: weakref.ref[Any] | None = None
        self._class_name = type(module).__name__
        self._signature = Signature(rebound.original)
        self._lock = threading.Lock()
        self._count_lock = threading.Lock()
        self._counters: Counter[str] = Counter()
        self._originals: Counter[str] = Counter()
        self._closed = False
        self._engine: Engine | None = None
        self._batcher: Batcher | None = None
        self._joining = 0
        self._joined = threading.Condition()
        self._target: Target | None = None
        self._reset()
        rebound.install()

    def prepare(self) -> None:
        """Build now what the first call would build.

        With ``strict``, raises what would else be reported: `Unsupported` or the failure itself.
        """
        module = self._module()
        if module is None or not self.enabled or conditions.of_module(module):
            return
        with self._lock:
            failure = self._try(lambda: self._current_engine(module))[1] or self._refusal()
        self._tell(failure)

    def configure(self, options: Options) -> None:
        """Take new options and forget failures; weights are read anew at the next call."""
        with self._lock:
            if replace(options, strict=self.options.strict) != self.options:
                self._drop_engine()
            self.options = options
            self._reset()

    def follow(self, pipeline: Any, path: str) -> None:
        """Let the switch of the pipeline with the module at ``path`` decide whether ours runs."""
        self._pipeline = weakref.ref(pipeline)
        self.path = path

    @property
    def pipeline(self) -> Any:
        return None if self._pipeline is None else self._pipeline()

    @property
    def enabled(self) -> bool:
        pipeline = self.pipeline
        if pipeline is None:
            return self.options.enabled
        return switched_on(pipeline, self.options.enabled)

    def close(self) -> None:
        """Restore the module; calls already under way finish first."""
        with self._lock:
            self._closed = True
            rebound = self._rebound()
            if rebound is not None:
                rebound.remove()
            self._drop_engine()

    @property
    def mismatch(self) -> str:
        """How the module differs from what its structure promises, or an empty string."""
        return self._mismatch

    @property
    def engine(self) -> Engine | None:
        return self._engine

    def original(self, module: nn.Module) -> Callable[..., Any]:
        """What the module would run without us."""
        rebound = self._rebound()
        return rebound.original if rebound is not None else MethodType(type(module).forward, module)

    def _reset(self) -> None:
        self._snapshot: Snapshot | None = None
        self._unsupported = ""
        self._mismatch = ""
        self._failures = 0
        self._failure = ""
        self._told = False
        self._noted: set[str] = set()

    def _call(
        self, module: nn.Module, original: Callable[..., Any], args: tuple, kwargs: dict
    ) -> Any:
        if torch.compiler.is_compiling():
            return original(*args, **kwargs)
        arguments = self._signature.read(args, kwargs)
        if self._closed or not self.enabled:
            why = conditions.DISABLED
        elif isinstance(arguments, str):
            why = arguments
        else:
            why = conditions.of_call(module, arguments.x, arguments.g)
            if not why:
                out, why = self._run(module, arguments)
                if out is not None:
                    return out
        with self._count_lock:
            self._counters["calls"] += 1
            self._originals[why] += 1
        self._note(f"runs its original forward: {why}")
        return original(*args, **kwargs)

    def _run(self, module: nn.Module, arguments: Arguments) -> tuple[torch.Tensor | None, str]:
        """The audio, or None and why the original forward has to run."""
        with self._lock:
            if self._closed:
                return None, conditions.DISABLED
            engine, failure = self._try(lambda: self._current_engine(module))
            if engine is not None:
                x, g = arguments.batched()
                if any(t.device != engine.device for t in (x, g) if t is not None):
                    return None, conditions.ELSEWHERE
                engine.check(x, g)
                if self._batcher is None:
                    out, failure = self._try(lambda: engine(x, g))
                else:
                    out, failure = self._join(self._batcher, x, g)
                if out is not None:
                    self._failures, self._failure = 0, ""
                    with self._count_lock:
                        self._counters["calls"] += 1
                        self._counters["accelerated"] += 1
                    return arguments.restored(out), ""
            why = self._why_not()
            failure = failure or self._refusal()
        self._tell(failure)
        return None, why

    def _join(
        self, batcher: Batcher, x: torch.Tensor, g: torch.Tensor | None
    ) -> tuple[torch.Tensor | None, Exception | None]:
        """Run with the requests of other threads, which need the lock to get here meanwhile."""
        with self._joined:
            self._joining += 1
        self._lock.release()
        out, failure = None, None
        try:
            out = batcher(x, g)
        except Exception as error:
            failure = error
        finally:
            with self._joined:
                self._joining -= 1
                self._joined.notify_all()
            self._lock.acquire()
        if failure is not None:
            self._count_failure(failure)
        return out, failure

    def _try(self, action: Callable[[], Any]) -> tuple[Any, Exception | None]:
        """The result of ``action``, or None and the failure, which is counted."""
        try:
            return action(), None
        except Exception as failure:
            self._count_failure(failure)
            return None, failure

    def _count_failure(self, failure: Exception) -> None:
        self._failures += 1
        with self._count_lock:
            self._counters["failures"] += 1
        self._failure = f"{type(failure).__name__}: {failure}"
        if isinstance(failure, OUT_OF_MEMORY) or self._failures >= MOST_FAILURES:
            # The original forward needs the memory; a build may also have stopped half-way.
            self._drop_engine()
            self._snapshot = None

    def _refusal(self) -> Exception | None:
        """With ``strict``, the known reason for having no engine as an error."""
        why = self._mismatch or self._unsupported
        return Unsupported(f"{self.path} ({self._class_name}): {why}") if why else None

    def _tell(self, failure: Exception | None) -> None:
        """Raise if strict, else warn once. Outside the lock: a warning filter may run any code."""
        if failure is not None and self.options.strict:
            raise failure
        if failure is None or isinstance(failure, Unsupported):
            return
        message = (
            f"vocoder_kernels: {self.path} ({self._class_name}) runs its original forward, because "
            f"ours failed: {type(failure).__name__}: {failure}"
        )
        if self._told:
            logger.debug(message, exc_info=failure)
            return
        self._told = True
        logger.warning(message, exc_info=failure)
        warnings.warn(message, RuntimeWarning, stacklevel=2)

    def _note(self, what: str) -> None:
        """Log what the module does, once for each thing it does."""
        if what not in self._noted:
            self._noted.add(what)
            itself = self.path == ITSELF
            name = self._class_name if itself else f"{self.path} ({self._class_name})"
            logger.info("%s %s", name, what)

    def _why_not(self) -> str:
        if self._mismatch or self._unsupported:
            return self._mismatch or self._unsupported
        if self._failures >= MOST_FAILURES:
            return f"gave up after {self._failures} failures in a row: {self._failure}"
        return f"failed: {self._failure}" if self._failure else ""

    def _current_engine(self, module: nn.Module) -> Engine | None:
        """The engine for the module as it is now; None if there is a known reason for none."""
        if self._snapshot is not None and self._snapshot.matches():
            if self._engine is not None or self._unsupported or self._mismatch:
                return self._engine
        if self._failures >= MOST_FAILURES:
            return None
        # Taken before the weights are read: a write in between is then seen at the next call.
        snapshot = Snapshot(module)
        self._snapshot = None
        self._unsupported = self._mismatch = ""
        try:
            self._renew(module)
        except (Unsupported, Unrecognised) as refusal:
            self._unsupported = str(refusal)
            self._drop_engine()
        self._snapshot = snapshot
        why = self._mismatch or self._unsupported
        self._note(f"runs its original forward: {why}" if why else f"runs on {self._target}")
        return self._engine

    def _renew(self, module: nn.Module) -> None:
        hidden = unwatchable(module)
        if hidden:
            raise Unsupported(hidden)
        target, backend = target_of(module, self.options)
        if self._engine is not None and target == self._target:
            with self._joined:  # their weights are those from before
                self._joined.wait_for(lambda: not self._joining)
            update_engine(self._engine, module)
            self._counters["updates"] += 1
            return
        self._drop_engine()
        engine = build_engine(module, target, backend, self.options)
        self._counters["builds"] += 1
        try:
            if self.options.verify:
                self._mismatch = difference(self.original(module), engine)
        except Exception:
            engine.release()
            raise
        if self._mismatch:
            engine.release()
        else:
            self._engine, self._target = engine, target
            most, wait_ms = self.options.join_requests, self.options.join_wait_ms
            if most is not None:
                self._batcher = Batcher(engine, most, (wait_ms or 0) / 1000)

    def _drop_engine(self) -> None:
        engine, self._engine, self._target = self._engine, None, None
        self._batcher = None
        with self._joined:  # requests that have joined need the engine; none can follow them now
            self._joined.wait_for(lambda: not self._joining)
        if engine is not None:
            engine.release()

    def report(self, path: str) -> ModuleReport:
        """State and counters now; does not wait for calls under way."""
        module, engine, target = self._module(), self._engine, self._target
        batcher = self._batcher
        why = self._why_not()
        if module is not None and not why:
            why = conditions.of_module(module) if self.enabled else conditions.DISABLED
        place = placement(module) if module is not None else "deleted"
        device, dtype = ("", "") if isinstance(place, str) else (str(place[0]), str(place[1]))
        return ModuleReport(
            path=path,
            class_name=self._class_name,
            family=(family_of(module) if module is not None else None) or "",
            status=FELL_BACK if why else PATCHED,
            backend=target.backend if target else "",
            dtype=dtype.replace("torch.", ""),
            device=device,
            why=why,
            statistics={
                **self._counters,
                **(engine.statistics() if engine else {}),
                **(batcher.statistics() if batcher else {}),
            },
            originals=dict(self._originals),
            windows=engine.window_times() if engine else (),
        )
