"""The vocoder of a loaded GPT-SoVITS model, several times faster, nothing else changed."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .options import Options
    from .patching import compile, patch, patched, report, unpatch, verify
    from .runtime.engine import Engine

_HOME = {
    "Engine": ".runtime.engine",
    "Options": ".options",
    "compile": ".patching",
    "patch": ".patching",
    "patched": ".patching",
    "report": ".patching",
    "unpatch": ".patching",
    "verify": ".patching",
}

__all__ = [
    "Engine",
    "Options",
    "compile",
    "patch",
    "patched",
    "report",
    "unpatch",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use, so that importing the package costs nothing."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_HOME[name], __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
