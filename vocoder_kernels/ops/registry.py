"""Table of operations: dispatch, tests and compile checks iterate over it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

OPERATIONS = ("head", "upsample", "residual_conv", "alias_free", "tail")


def operation(name: str) -> ModuleType:
    """The operation's ``launch`` module: ``choose_config``, ``can_run``, ``launch``; needs Triton.

    Raises ``KeyError`` for a name that is not in `OPERATIONS`.
    """
    if name not in OPERATIONS:
        raise KeyError(f"operation: expected one of {', '.join(OPERATIONS)}, got {name!r}")
    return import_module(f"{__package__}.{name}.launch")
