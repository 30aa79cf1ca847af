"""The public functions: patch, unpatch, patched, report, verify, compile."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..families import Unrecognised, describe, family_of
from ..options import Options
from ..runtime.engine import Engine
from .binding import Binding
from .build import Unsupported, build_engine, target_of
from .discover import Found, find_vocoders
from .pipelines import follow, is_pipeline, own_options, unfollow
from .reports import NOT_PATCHED, REFUSED, ErrorTable, ModuleReport, PatchReport
from .verification import error_rows
from .watch import placement

_bindings: weakref.WeakKeyDictionary[nn.Module, weakref.ref[Binding]] = weakref.WeakKeyDictionary()
_refusals: weakref.WeakKeyDictionary[nn.Module, str] = weakref.WeakKeyDictionary()
_patching = threading.RLock()


def patch(
    model: Any,
    options: Options | None = None,
    *,
    backend: str | None = None,
    chunk_frames: int | None = None,
    strict: bool | None = None,
    verify: bool | None = None,
    **more: Any,
) -> PatchReport:
    """Speed up every vocoder in ``model``, in place; returns what became of each.

    ``model``: a vocoder, a module that contains some, or a container or object that holds such
    modules (a pipeline). ``options`` are the base (default: `Options` and the environment, for a
    GPT-SoVITS pipeline also its ``tts_infer.yaml``), the arguments, which are fields of `Options`,
    go before them. Patching again takes the new options, forgets failures and reads the weights
    anew (needed only after writes through ``.data``).

    A GPT-SoVITS ``TTS`` is patched again whenever it loads or moves modules, and gets an attribute
    ``use_vocoder_optimization``: while it is false, the original forward runs.

    Raises ``TypeError`` for an object that can hold no vocoder or an unknown option, ``ValueError``
    for a value an option cannot have; with ``strict`` also ``NotImplementedError`` if there is no
    vocoder or one is refused.
    """
    arguments = dict(backend=backend, chunk_frames=chunk_frames, strict=strict, verify=verify)
    resolved = _resolve(options, {**arguments, **more}, model)
    found = find_vocoders(model, _is_vocoder)
    if not found and resolved.strict:
        raise NotImplementedError(f"patch: found no vocoder in {type(model).__name__}")
    with _patching:
        follow(model, lambda pipeline: _patch_new(pipeline, resolved), resolved.enabled)
        try:
            return PatchReport(tuple(_patch_one(f, resolved, model) for f in found))
        except Exception:
            unfollow(model)
            raise


def unpatch(model: Any) -> None:
    """Give every vocoder in ``model`` its own forward back, exactly; others are left alone."""
    with _patching:
        unfollow(model)
        for found in find_vocoders(model, _is_vocoder):
            _unbind(found.module)


@contextmanager
def patched(model: Any, options: Options | None = None, **settings: Any) -> Iterator[PatchReport]:
    """Patch within a ``with`` block; afterwards every vocoder is as it was before the block."""
    bindings = {f.module: binding_of(f.module) for f in find_vocoders(model, _is_vocoder)}
    kept = {module: b.options for module, b in bindings.items() if b is not None}
    following = unfollow(model)
    try:
        yield patch(model, options, **settings)
    finally:
        with _patching:
            unfollow(model)
            if following is not None:
                following.install()
            for module in {*bindings, *(f.module for f in find_vocoders(model, _is_vocoder))}:
                _restore(module, kept.get(module))


def report(model: Any) -> PatchReport:
    """The state of every vocoder in ``model`` now, patched or not, with its counters."""
    return PatchReport(tuple(_report_one(f) for f in find_vocoders(model, _is_vocoder)))


def verify(
    model: Any, mel: torch.Tensor | None = None, g: torch.Tensor | None = None
) -> ErrorTable:
    """Errors of the eager module and of ours against float64, for every vocoder in ``model``.

    ``mel: [B, C_in, T]`` and ``g: [B, gin, 1]``; without them, random ones. Modules that are not
    patched are compiled for the purpose. Raises ``NotImplementedError`` for a vocoder that has no
    kernels where it is.
    """
    tables = []
    for found in find_vocoders(model, _is_vocoder):
        module, binding = found.module, binding_of(found.module)
        options = binding.options if binding is not None else Options.resolve()
        original = binding.original(module) if binding is not None else module.forward
        engine = compile(module, options)
        try:
            tables.append(error_rows(found.path, module, original, engine, mel, g))
        finally:
            engine.release()
    rows = tuple(row for table in tables for row in table.rows)
    return ErrorTable(rows, all(table.ok for table in tables))


def compile(module: nn.Module, options: Options | None = None, **settings: Any) -> Engine:
    """An engine with the vocoder's weights as they are now; the module stays as it is.

    Raises ``NotImplementedError`` with the reason if there are no kernels for it.
    """
    resolved = _resolve(options, settings)
    target, backend = target_of(module, resolved)
    return build_engine(module, target, backend, resolved)


def binding_of(module: nn.Module) -> Binding | None:
    reference = _bindings.get(module)
    return reference() if reference is not None else None


def _resolve(options: Options | None, arguments: dict[str, Any], pipeline: Any = None) -> Options:
    if options is None:
        options = own_options(pipeline)
    if options is None:
        return Options.resolve(**arguments)
    if not isinstance(options, Options):
        raise TypeError(f"options: expected Options, got {type(options).__name__}")
    return options.changed(**arguments)


def _is_vocoder(module: nn.Module) -> bool:
    return module in _bindings or family_of(module) is not None


def _patch_one(found: Found, options: Options, holder: Any = None) -> ModuleReport:
    """``holder``: the object in which it was found; the switch of a pipeline governs it."""
    module, binding = found.module, binding_of(found.module)
    if binding is None:
        why = _refusal(module, options)
        if why:
            return _refuse(found, why, options)
        binding = Binding(module, found.path, options)
        _bindings[module] = weakref.ref(binding)
    else:
        binding.configure(options)
    if is_pipeline(holder):
        binding.follow(holder, found.path)
    try:
        binding.prepare()
    except Exception:
        _unbind(module)
        raise
    if binding.mismatch:
        _unbind(module)
        return _refuse(found, binding.mismatch, options)
    _refusals.pop(module, None)
    return binding.report(found.path)


def _patch_new(pipeline: Any, options: Options) -> None:
    """Patch what a pipeline has loaded since it was patched, and prepare what it has moved."""
    with _patching:
        for found in find_vocoders(pipeline, _is_vocoder):
            binding = binding_of(found.module)
            if binding is None or binding.pipeline is not pipeline:
                _patch_one(found, options, pipeline)
            else:
                binding.prepare()


def _refusal(module: nn.Module, options: Options) -> str:
    if "forward" in vars(module) and not options.verify and not _is_own_forward(module):
        return "its forward was replaced on the instance; patch with verify=True to compare them"
    try:
        describe(module)
    except Unrecognised as refusal:
        return str(refusal)
    return ""


def _is_own_forward(module: nn.Module) -> bool:
    forward = vars(module)["forward"]
    return getattr(forward, "__func__", None) is type(module).forward


def _refuse(found: Found, why: str, options: Options) -> ModuleReport:
    if options.strict:
        raise Unsupported(f"{found.path} ({type(found.module).__name__}): {why}")
    _refusals[found.module] = why
    return _unpatched(found, REFUSED, why)


def _unbind(module: nn.Module) -> None:
    binding = binding_of(module)
    _bindings.pop(module, None)
    if binding is not None:
        binding.close()


def _restore(module: nn.Module, options: Options | None) -> None:
    """Back to ``options``, or to the module's own forward if there were none."""
    binding = binding_of(module)
    if options is None:
        _unbind(module)
    elif binding is not None and binding.options != options:
        binding.configure(options)


def _report_one(found: Found) -> ModuleReport:
    binding = binding_of(found.module)
    if binding is not None:
        return binding.report(found.path)
    why = _refusals.get(found.module, "")
    return _unpatched(found, REFUSED if why else NOT_PATCHED, why)


def _unpatched(found: Found, status: str, why: str) -> ModuleReport:
    place = placement(found.module)
    device, dtype = ("", "") if isinstance(place, str) else (str(place[0]), str(place[1]))
    return ModuleReport(
        path=found.path,
        class_name=type(found.module).__name__,
        family=family_of(found.module) or "",
        status=status,
        dtype=dtype.replace("torch.", ""),
        device=device,
        why=why,
    )
