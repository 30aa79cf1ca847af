"""Which implementation runs an operation, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ...ops import registry
from ...ops.support import Target

IMPLEMENTATIONS = ("triton", "cuda")


class Unsupported(NotImplementedError):
    """No implementation runs an operation here; the message says why."""


@dataclass(frozen=True)
class Choice:
    """``why_not``: the reasons of implementations that would have gone before."""

    op: str
    name: str
    why_not: str = ""

    @property
    def module(self) -> ModuleType:
        """``choose_config``, ``pack`` and ``launch`` of the implementation."""
        return registry.operation(self.op, self.name)


class Chooser:
    """The best of the ``allowed`` implementations for each operation on ``target``."""

    def __init__(self, target: Target, allowed: Sequence[str] = IMPLEMENTATIONS) -> None:
        self.target = target
        self.allowed = allowed

    def find(self, op: str, desc: Any) -> tuple[Choice | None, str]:
        """The choice, or None and every implementation's reason."""
        name, support = registry.choose(op, desc, self.target, self.allowed)
        return (Choice(op, name, support.reason) if support else None), support.reason

    def __call__(self, op: str, desc: Any) -> Choice:
        """Raises `Unsupported` if no implementation can."""
        choice, why_not = self.find(op, desc)
        if choice is None:
            raise Unsupported(f"{op}: {why_not}")
        return choice
