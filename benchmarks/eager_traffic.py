"""Bytes that PyTorch's eager operators read and write, counted without computing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vocoder_kernels.modules import build
from vocoder_kernels.program import Vocoder


@dataclass
class Traffic:
    """``operators`` that move data (views do not), and the ``nbytes`` of their inputs, weights and
    outputs, each once per operator."""

    operators: int = 0
    nbytes: int = 0


class _Counter(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.traffic = Traffic()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        read, written = _tensors((args, kwargs)), _tensors(result)
        is_view = not func._schema.is_mutable and _storages(written) <= _storages(read)
        if written and not is_view:
            self.traffic.operators += 1
            self.traffic.nbytes += sum(map(_nbytes, (*read, *written)))
        return result


def _tensors(tree: Any) -> list[torch.Tensor]:
    found = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return list({id(tensor): tensor for tensor in found}.values())


def _storages(tensors: list[torch.Tensor]) -> set[int]:
    return {tensor.untyped_storage()._cdata for tensor in tensors}


def _nbytes(tensor: torch.Tensor) -> int:
    """An expanded tensor lies in memory once."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def count_traffic(call: Callable[[], Any]) -> Traffic:
    """Of the operators that ``call`` runs."""
    with torch.inference_mode(), _Counter() as counter:
        call()
    return counter.traffic


def eager_traffic(version: str, vocoder: Vocoder, frames: int, dtype: torch.dtype) -> Traffic:
    """What the eager module of ``version`` (weight norm folded) moves for ``frames`` frames."""
    module = build(version).to("meta", dtype)
    inputs = [torch.empty(1, vocoder.head.C_in, frames, device="meta", dtype=dtype)]
    if vocoder.cond is not None:
        inputs.append(torch.empty(1, vocoder.cond.C_in, 1, device="meta", dtype=dtype))
    return count_traffic(lambda: module(*inputs))
