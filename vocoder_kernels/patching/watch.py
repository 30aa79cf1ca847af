"""Noticing that a module's weights changed: in place, by a move or a cast, or in structure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Callable

import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef

storage_address: Callable[[torch.Tensor], int] = getattr(
    torch._C, "_storage_address", lambda tensor: tensor.untyped_storage()._cdata
)


class Snapshot:
    """A module's submodules, hooks, parameters and buffers at one moment.

    `matches` costs a few list comparisons. It cannot be deceived by reused addresses: tensors are
    held, storages are held weakly (their bytes can be freed, their identity is not reused). Writes
    through ``.data`` leave no trace that could be seen.
    """

    def __init__(self, module: nn.Module):
        modules = list(module.modules())
        self._children = [m._modules for m in modules]
        self._tensors = [d for m in modules for d in (m._parameters, m._buffers)]
        self._hooks = [h for m in modules[1:] for h in (m._forward_hooks, m._forward_pre_hooks)]
        self._held_modules = modules[1:]
        self._held = [t for d in self._tensors for t in d.values() if t is not None]
        self._held_storages = [StorageWeakRef(t.untyped_storage()) for t in self._held]
        self._versioned = [t for t in self._held if not t.is_inference()]
        self._structure = self._read_structure()
        self._values = self._read_values()

    def matches(self) -> bool:
        """Whether the module is still as it was."""
        return self._read_structure() == self._structure and self._read_values() == self._values

    def _read_structure(self) -> tuple[list[int], list[int], int]:
        return (
            [id(m) for d in self._children for m in d.values()],
            [id(t) for d in self._tensors for t in d.values() if t is not None],
            sum(map(len, self._hooks)),
        )

    def _read_values(self) -> tuple[list[int], list[int]]:
        return list(map(storage_address, self._held)), [t._version for t in self._versioned]


def unwatchable(module: nn.Module) -> str:
    """Why changes of this module's weights could not be seen, or an empty string."""
    for name, tensor in _named_tensors(module):
        if type(tensor) not in (torch.Tensor, nn.Parameter):
            return f"{name} is a {type(tensor).__name__}, not a plain tensor"
        if tensor.layout != torch.strided:
            return f"{name} has layout {tensor.layout}; expected strided"
        if tensor.is_inference():
            return (
                f"{name} is an inference tensor, whose changes cannot be seen; "
                "create the model outside torch.inference_mode()"
            )
    return ""


def placement(module: nn.Module) -> tuple[torch.device, torch.dtype] | str:
    """The one device and dtype of a module's weights, or why there is none."""
    places = {(t.device, t.dtype) for _, t in _named_tensors(module)}
    if len(places) == 1:
        return places.pop()
    found = ", ".join(sorted(f"{dtype} on {device}" for device, dtype in places))
    return f"its weights are not of one dtype on one device: {found or 'it has none'}"


def _named_tensors(module: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
