"""Weights in the order the kernels take them, at addresses that graphs may hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Callable

import torch

from ...ops import alias_free, residual_unit
from ...ops.head import pack_condition
from ...ops.tail import SnakeWeights
from ...runtime.memory import Step
from .steps import Program

Weights = Mapping[str, torch.Tensor]
Packed = dict[str, Any]
"""A launch's arguments: tensors, sequences of tensors, None, or numbers that travel by value."""


class PackedWeights:
    """The arguments of every launch that are weights. Programs share those of steps with one label
    and implementation."""

    def __init__(self, programs: Iterable[Program], weights: Weights) -> None:
        self._steps = {_key(step): step for program in programs for step in program.launches}
        self._packed = {key: _pack(step, weights) for key, step in self._steps.items()}

    def of(self, step: Step) -> Packed:
        return self._packed[_key(step)]

    def update(self, weights: Weights) -> bool:
        """Take new values into the same addresses. False if some travel by value and have changed:
        what was bound to them must be bound again."""
        unchanged = True
        for key, step in self._steps.items():
            for name, new in _pack(step, weights).items():
                old = self._packed[key][name]
                for old_part, new_part in zip(_tensors(old), _tensors(new)):
                    old_part.copy_(new_part)
                if new is not None and not _tensors(new) and new != old:
                    self._packed[key][name] = new
                    unchanged = False
        return unchanged

    def tensors(self) -> list[torch.Tensor]:
        arguments = [value for packed in self._packed.values() for value in packed.values()]
        return [tensor for value in arguments for tensor in _tensors(value)]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for tensor in self.tensors())

    def clear(self) -> None:
        self._packed.clear()


def _key(step: Step) -> tuple[str, str]:
    return step.label, step.desc.choice.name


def _tensors(value: Any) -> list[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        return [value]
    return [part for part in value or () if isinstance(part, torch.Tensor)]


def _pack(step: Step, weights: Weights) -> Packed:
    work = step.desc
    return PACKERS[step.op](work.choice.module.pack, work.desc, work.layers, weights)


def _single(desc: Any, layer: Any, weights: Weights) -> torch.Tensor | None:
    return weights[f"{layer.name}.bias"].float().contiguous() if desc.bias else None


def _head(pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights) -> Packed:
    head, *conditions = layers
    weight = pack(weights[f"{head.name}.weight"], desc.dtype)
    packed: Packed = {"weight": weight, "bias": _single(desc, head, weights)}
    for cond in conditions:
        packed["cond_weight"] = pack_condition(weights[f"{cond.name}.weight"], desc.dtype)
        packed["cond_bias"] = _single(cond, cond, weights)
    return packed


def _upsample(pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights) -> Packed:
    weight = pack(weights[f"{layers[0].name}.weight"], desc.stride, desc.dtype)
    return {"weight": weight, "bias": _single(desc, layers[0], weights)}


def _residual_conv(pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights) -> Packed:
    kernels = [weights[f"{layer.name}.weight"] for layer in layers]
    bias = _stacked([layers], "bias", weights, desc.C_out)[0] if desc.bias else None
    return {"weight": pack(kernels, desc.dtype), "bias": bias}


def _residual_unit(pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights) -> Packed:
    kernels = [[weights[f"{conv.name}.weight"] for conv in unit.convs] for unit in layers]
    convs = list(zip(*(unit.convs for unit in layers)))
    packed: Packed = {
        "weight": pack(kernels, desc.dtype),
        "bias": _stacked(convs, "bias", weights, desc.C),
    }
    if desc.snake:
        activations = list(zip(*(unit.activations for unit in layers)))
        packed["alpha"] = _stacked(activations, "alpha", weights, desc.C)
        packed["inv_beta"] = _stacked(activations, "inv_beta", weights, desc.C)
        packed["filters"] = residual_unit.pack_filters(weights["filter.up"], weights["filter.down"])
    return packed


def _residual_branch(
    pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights
) -> Packed:
    """``layers``: the branches, each its units."""
    kernels = [[[weights[f"{c.name}.weight"] for c in u.convs] for u in units] for units in layers]
    convs = [[conv] for units in layers for unit in units for conv in unit.convs]
    bias = _stacked(convs, "bias", weights, desc.C)[:, 0].contiguous()
    return {"weight": pack(kernels, desc.dtype), "bias": bias}


def _alias_free(pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights) -> Packed:
    return {
        "alpha": [weights[f"{layer.name}.alpha"].float().contiguous() for layer in layers],
        "inv_beta": [weights[f"{layer.name}.inv_beta"].float().contiguous() for layer in layers],
        "filters": pack(weights["filter.up"], weights["filter.down"]),
    }


def _tail(pack: Callable, desc: Any, layers: tuple[Any, ...], weights: Weights) -> Packed:
    activation, conv = layers
    packed: Packed = {
        "weight": pack(weights[f"{conv.name}.weight"]),
        "bias": _single(desc, conv, weights),
    }
    if desc.snake:
        packed["snake"] = SnakeWeights(
            weights[f"{activation.name}.alpha"].float().contiguous(),
            weights[f"{activation.name}.inv_beta"].float().contiguous(),
            alias_free.pack_filters(weights["filter.up"], weights["filter.down"]),
        )
    return packed


def _stacked(rows: list[Any], kind: str, weights: Weights, C: int) -> torch.Tensor:
    """fp32 ``[len(rows), layers per row, C]``, zeros for a layer without such a vector."""
    zeros = next(iter(weights.values())).new_zeros(C)
    vectors = [[weights.get(f"{layer.name}.{kind}", zeros) for layer in row] for row in rows]
    return torch.stack([torch.stack(row) for row in vectors]).float()


PACKERS: dict[str, Callable[..., Packed]] = {
    "head": _head,
    "upsample": _upsample,
    "residual_conv": _residual_conv,
    "residual_unit": _residual_unit,
    "residual_branch": _residual_branch,
    "alias_free": _alias_free,
    "tail": _tail,
}
