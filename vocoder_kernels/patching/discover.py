"""Finding vocoders in modules, in containers of modules and in plain objects such as pipelines."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Callable

import torch
from torch import nn

from ..families import family_of

OBJECT_DEPTH = 2
"""Plain objects searched below each other: ``pipeline.vocoder``, ``speaker.sovits.vq_model``; a
Python module given to be searched counts as none."""

ITSELF = "(model)"
"""Path of a vocoder that was itself given to be searched."""

_ATOMS = (type(None), bool, int, float, complex, str, bytes, torch.Tensor, type, ModuleType)


@dataclass(frozen=True)
class Found:
    """A vocoder and how to reach it from the object that was searched."""

    path: str
    module: nn.Module


def find_vocoders(model: Any, wanted: Callable[[nn.Module], bool] | None = None) -> list[Found]:
    """Every vocoder in ``model``, each once, in a stable order.

    Raises ``TypeError`` for something that can hold no modules.
    """
    if isinstance(model, _ATOMS) and not isinstance(model, ModuleType):
        raise TypeError(
            "vocoder search: expected a vocoder, a module or an object that holds one, "
            f"got {type(model).__name__}"
        )
    is_wanted = wanted or (lambda module: family_of(module) is not None)
    seen: set[int] = set()
    return list(_walk(model, "", OBJECT_DEPTH, is_wanted, seen))


def _walk(
    value: Any, path: str, depth: int, wanted: Callable[[nn.Module], bool], seen: set[int]
) -> Iterator[Found]:
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, nn.Module):
        yield from _walk_module(value, path, wanted, seen)
        return
    children, below = _children(value, path, depth)
    for name, child in children:
        if not isinstance(child, _ATOMS) and not callable_only(child):
            yield from _walk(child, name, below, wanted, seen)


def _walk_module(
    module: nn.Module, path: str, wanted: Callable[[nn.Module], bool], seen: set[int]
) -> Iterator[Found]:
    seen.add(id(module))
    # A module compiled by torch.compile answers for its original's attributes.
    if "_orig_mod" not in module._modules and wanted(module):
        yield Found(path or ITSELF, module)
        return
    for name, child in module._modules.items():
        if child is not None and id(child) not in seen:
            yield from _walk_module(child, f"{path}.{name}" if path else name, wanted, seen)


def _children(value: Any, path: str, depth: int) -> tuple[list[tuple[str, Any]], int]:
    """Named parts of a container or plain object, and how deep objects in them may be searched."""
    if isinstance(value, dict):
        return [(f"{path}[{key!r}]", child) for key, child in list(value.items())], depth
    if isinstance(value, (list, tuple)):
        return [(f"{path}[{i}]", child) for i, child in enumerate(list(value))], depth
    attributes = getattr(value, "__dict__", None)
    if depth < 1 or not isinstance(attributes, dict):
        return [], 0
    prefix = f"{path}." if path else ""
    below = depth if isinstance(value, ModuleType) else depth - 1
    return [(prefix + str(name), child) for name, child in list(attributes.items())], below


def callable_only(value: Any) -> bool:
    """Functions and methods hold no models, and their attributes lead anywhere."""
    return callable(value) and not isinstance(value, nn.Module) and hasattr(value, "__name__")
