"""How the original forward is called, read as input ``x`` and condition ``g``."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Callable

import torch

from .conditions import NOT_PLAIN

UNKNOWN_ARGUMENTS = "called with arguments that the family's forward does not have"


@dataclass(frozen=True)
class Arguments:
    """Inputs as eager takes them: each with a batch dimension or without."""

    x: torch.Tensor
    g: torch.Tensor | None

    def batched(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """``x: [B, C_in, T]`` and ``g: [B or 1, gin, 1]``, broadcast as adding them would."""
        x = self.x.unsqueeze(0) if self.x.dim() == 2 else self.x
        if self.g is None:
            return x, None
        g = self.g.unsqueeze(0) if self.g.dim() == 2 else self.g
        if x.dim() == 3 and g.dim() == 3 and x.shape[0] == 1:
            x = x.expand(g.shape[0], -1, -1)
        return x, g

    def restored(self, out: torch.Tensor) -> torch.Tensor:
        """The output with the dimensions that eager gives for these inputs."""
        unbatched = self.x.dim() == 2 and (self.g is None or self.g.dim() == 2)
        return out.squeeze(0) if unbatched else out


class Signature:
    """Names of the first two parameters of a forward."""

    def __init__(self, forward: Callable[..., Any]):
        kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        try:
            parameters = list(inspect.signature(forward).parameters.values())
        except (TypeError, ValueError):  # callables without a readable signature
            parameters = []
        names = [p.name for p in parameters if p.kind in kinds][:2]
        self._names = (*names, *("x", "g")[len(names) :])

    def read(self, args: tuple, kwargs: dict) -> Arguments | str:
        """The inputs, or why they cannot be read."""
        values = dict(zip(self._names, args))
        if len(args) > 2 or set(kwargs) - set(self._names) or set(kwargs) & set(values):
            return UNKNOWN_ARGUMENTS
        values.update(kwargs)
        x, g = (values.get(name) for name in self._names)
        if not isinstance(x, torch.Tensor) or not isinstance(g, (torch.Tensor, type(None))):
            return NOT_PLAIN
        return Arguments(x, g)
