"""Callables in place of a method of one instance, invisible to copying, pickling and scripting."""

from __future__ import annotations

import operator
import types
import weakref
from typing import Any, Callable, SupportsIndex

import torch


class Rebound:
    """Stands in ``owner.__dict__[name]`` and calls ``instead(owner, original, args, kwargs)``.

    * Copies and pickles of the owner hold what was there before (the plain bound method), so they
      are independent of this package.
    * It shows the original's signature, source and attributes, so that scripting, tracing and
      exporting work on the original's code.
    * The owner is referenced weakly: deleting a model frees it at once, as before.
    """

    def __init__(
        self,
        owner: Any,
        name: str,
        instead: Callable[[Any, Callable[..., Any], tuple, dict], Any],
    ):
        own = self.__dict__
        own["_owner"] = weakref.ref(owner)
        own["_name"] = name
        own["_instead"] = instead
        own["_previous"] = _previous(owner, name)

    def install(self) -> None:
        vars(self._live_owner())[self._name] = self

    def remove(self) -> None:
        """Put back what was there before, unless someone else has replaced us meanwhile."""
        owner = self._owner()
        if owner is None or vars(owner).get(self._name) is not self:
            return
        if self._previous is None:
            del vars(owner)[self._name]
        else:
            vars(owner)[self._name] = self._previous

    @property
    def original(self) -> Callable[..., Any]:
        """What the owner would call without us."""
        if self._previous is not None:
            return self._previous
        owner = self._live_owner()
        return types.MethodType(getattr(type(owner), self._name), owner)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        owner = self._live_owner()
        if torch.compiler.is_compiling() and self._previous is None:
            # What compilers and exporters see is the class's own code. From PyTorch 2.14 on they
            # refuse to trace the making of a bound method.
            return getattr(type(owner), self._name)(owner, *args, **kwargs)
        return self._instead(owner, self.original, args, kwargs)

    def _live_owner(self) -> Any:
        owner = self._owner()
        if owner is None:
            raise RuntimeError(
                f"{self._name}: this is a shallow copy of a patched object that no longer exists; "
                "use copy.deepcopy, or unpatch before copying"
            )
        return owner

    @property  # type: ignore[misc]
    def __class__(self) -> type:  # type: ignore[override]
        """``inspect`` and ``torch.jit.script`` look for the source of a method by its type."""
        return type(self.original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.original, name)

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple:
        if self._previous is not None:
            return operator.getitem, ((self._previous,), 0)
        return getattr, (self._live_owner(), self._name)


def _previous(owner: Any, name: str) -> Any:
    """An instance's own attribute; a deep copy's bound class method is as good as none."""
    previous = vars(owner).get(name)
    is_plain = (
        isinstance(previous, types.MethodType)
        and previous.__self__ is owner
        and previous.__func__ is getattr(type(owner), name)
    )
    return None if is_plain else previous
