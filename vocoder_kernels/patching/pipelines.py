"""Pipelines that load new modules while they run: patched again whenever they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from .rebinding import Rebound

LOADERS = ("init_vits_weights", "init_vocoder")
"""Methods of GPT-SoVITS' ``TTS`` that install a module; a failed request calls them too."""


def follow(pipeline: Any, patch_again: Callable[[Any], Any]) -> None:
    """Call ``patch_again(pipeline)`` after every loader of ``pipeline``, in place of what was called
    before."""
    unfollow(pipeline)
    if isinstance(pipeline, (nn.Module, type)) or not hasattr(pipeline, "__dict__"):
        return

    def load_and_patch(owner: Any, original: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        result = original(*args, **kwargs)
        patch_again(owner)
        return result

    for name in LOADERS:
        if callable(getattr(type(pipeline), name, None)):
            Rebound(pipeline, name, load_and_patch).install()


def unfollow(pipeline: Any) -> list[Rebound]:
    """Give the loaders back; returns what was in their place, to be installed again if wanted."""
    own = getattr(pipeline, "__dict__", {})
    followed = [own[name] for name in LOADERS if type(own.get(name)) is Rebound]
    for rebound in followed:
        rebound.remove()
    return followed
