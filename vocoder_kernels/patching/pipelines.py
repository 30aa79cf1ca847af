"""Pipelines that load and move modules while they run: patched again whenever they do."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

from ..integrations.gpt_sovits import classic
from ..integrations.gpt_sovits.config import ENABLE_KEY as SWITCH
from ..integrations.gpt_sovits.config import options_from_file
from ..options import Options
from .rebinding import Rebound

LOADERS = ("init_vits_weights", "init_vocoder")
"""Methods of GPT-SoVITS' ``TTS`` that install a module; a failed request calls them too."""

MOVERS = ("enable_half_precision", "set_device")
"""Methods that cast or move what is installed."""

_ABSENT = object()
_followings: dict[int, Following] = {}


class Following:
    """What patching adds to a pipeline: its loaders and movers rebound, the attribute
    ``use_vocoder_optimization`` to switch at run time, and the methods of the classic guide."""

    def __init__(self, pipeline: Any, patch_again: Callable[[Any], Any], enabled: bool):
        def run_and_patch(
            owner: Any, original: Callable[..., Any], args: tuple, kwargs: dict
        ) -> Any:
            try:
                return original(*args, **kwargs)
            finally:  # a loader may fail after it has installed a module
                patch_again(owner)

        self._pipeline = weakref.ref(pipeline)
        self._rebound = [
            Rebound(pipeline, name, run_and_patch)
            for name in (*LOADERS, *MOVERS)
            if callable(getattr(type(pipeline), name, None))
        ]
        self._added: dict[str, Any] = {SWITCH: enabled, **classic.methods(pipeline)}
        self._former: dict[str, Any] = {}
        self._forget: Callable[[], Any] = lambda: None

    def install(self) -> None:
        pipeline = self._pipeline()
        own = vars(pipeline)
        for rebound in self._rebound:
            rebound.install()
        self._former = {name: own.get(name, _ABSENT) for name in self._added}
        own.update(self._added)
        _followings[id(pipeline)] = self
        self._forget = weakref.finalize(pipeline, _followings.pop, id(pipeline), None)

    def remove(self) -> None:
        """Leave the pipeline as it was; the switch keeps its position for another `install`."""
        pipeline = self._pipeline()
        own = vars(pipeline)
        for rebound in self._rebound:
            rebound.remove()
        self._added[SWITCH] = own.get(SWITCH, self._added[SWITCH])
        for name, former in self._former.items():
            if own.get(name) is not self._added[name]:
                continue
            if former is _ABSENT:
                del own[name]
            else:
                own[name] = former
        self._forget()


def is_pipeline(model: Any) -> bool:
    """Whether it is an object that loads modules by methods named as those of ``TTS``."""
    return (
        not isinstance(model, (nn.Module, type))
        and hasattr(model, "__dict__")
        and any(callable(getattr(type(model), name, None)) for name in LOADERS)
    )


def follow(pipeline: Any, patch_again: Callable[[Any], Any], enabled: bool) -> None:
    """Call ``patch_again(pipeline)`` after every loader and mover of ``pipeline``, in place of what
    was called before; ``enabled`` is where its switch starts. Does nothing to other objects."""
    unfollow(pipeline)
    if is_pipeline(pipeline):
        Following(pipeline, patch_again, enabled).install()


def unfollow(pipeline: Any) -> Following | None:
    """Undo `follow`; returns what was in place, to be installed again if wanted."""
    following = _followings.get(id(pipeline))
    if following is not None:
        following.remove()
    return following


def switched_on(pipeline: Any, otherwise: bool) -> bool:
    """Where a pipeline's switch stands."""
    return bool(getattr(pipeline, SWITCH, otherwise))


def own_options(pipeline: Any) -> Options | None:
    """The options in a pipeline's ``tts_infer.yaml``, or None if it has no such file.

    Raises ``ValueError`` naming file, key and what is allowed.
    """
    path = getattr(getattr(pipeline, "configs", None), "configs_path", None)
    if not is_pipeline(pipeline) or not isinstance(path, str):
        return None
    return options_from_file(path)
