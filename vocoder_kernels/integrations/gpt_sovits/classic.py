"""The names of the classic integration guide, exact and without its edits.

That guide asks to copy files, to paste methods into ``TTS`` and to cut long mels into chunks, which
costs quality at their edges. Here the same names rebind the vocoder they are given (`unpatch` gives
it back), one engine serves every length, and windows are read with their whole receptive field.
"""

from __future__ import annotations

import weakref
from typing import Any, Callable

import torch
from torch import nn

from ...options import Options
from .config import DEFAULT_CHUNK_FRAMES


class OptimizedVocoderProcessor:
    """``process_optimized(mel)`` for a loaded vocoder, which is patched in place.

    ``chunk_size``: most frames per window. ``device``: where the vocoder is expected to be.
    ``overlap_ratio`` is taken and not needed: windows overlap by the receptive field.

    Raises ``NotImplementedError`` with the reason if there are no kernels for the vocoder,
    ``ValueError`` if it is on another device.
    """

    def __init__(
        self,
        vocoder_model: nn.Module,
        device: str | torch.device | None = None,
        chunk_size: int = DEFAULT_CHUNK_FRAMES,
        overlap_ratio: float = 0.0,
    ):
        self.vocoder_model = vocoder_model
        self.device = _expect_device(vocoder_model, device)
        self.chunk_size = chunk_size
        self.overlap_ratio = overlap_ratio
        _patch_or_raise(vocoder_model, chunk_size)

    def process_optimized(self, pred_spec: torch.Tensor) -> torch.Tensor:
        """``pred_spec: [B, C_in, T]`` of the vocoder's dtype and device; returns ``[B, 1, L]``,
        equal to the whole mel in one eager call, whatever ``chunk_size``."""
        with torch.no_grad():
            return self.vocoder_model(pred_spec)


class CUDAGraphVocoder:
    """A loaded vocoder, patched in place, to be called on a mel; runs on the CPU as well.

    ``max_cached_shapes`` is taken and not needed: one graph per window size serves every length.
    Raises as `OptimizedVocoderProcessor` does.
    """

    def __init__(
        self,
        vocoder_model: nn.Module,
        device: str | torch.device | None = None,
        max_cached_shapes: int = 0,
    ):
        self.vocoder_model = vocoder_model
        self.device = _expect_device(vocoder_model, device)
        self.max_cached_shapes = max_cached_shapes
        _patch_or_raise(vocoder_model, None)

    def initialize_graph(self, input_shape: tuple[int, ...], num_warmup: int = 1) -> bool:
        """Pay the first call's costs for ``input_shape``: ``[B, C_in, T]`` now."""
        weight = next(self.vocoder_model.parameters())
        for _ in range(num_warmup):
            self.inference(torch.zeros(input_shape, dtype=weight.dtype, device=weight.device))
        return True

    def inference(self, input_tensor: torch.Tensor) -> torch.Tensor:
        """``input_tensor: [B, C_in, T]`` of the vocoder's dtype and device; ``[B, 1, L]``."""
        with torch.no_grad():
            return self.vocoder_model(input_tensor)

    __call__ = inference


class PipelineMethod:
    """A classic method of one patched pipeline, which is referenced weakly.

    A copy or a pickle of the pipeline is not patched; there the method says so.
    """

    def __init__(self, name: str, function: Callable[..., Any], pipeline: Any = None):
        self.__name__ = name
        self.__doc__ = function.__doc__
        self._function = function
        self._pipeline = None if pipeline is None else weakref.ref(pipeline)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        pipeline = None if self._pipeline is None else self._pipeline()
        if pipeline is None:
            raise RuntimeError(
                f"{self.__name__}: this pipeline is a copy of a patched one; patch it as well"
            )
        return self._function(pipeline, *args, **kwargs)

    def __reduce__(self) -> tuple:
        return PipelineMethod, (self.__name__, self._function)


def init_vocoder_optimization(pipeline: Any) -> bool:
    """Nothing is left to initialise on a patched pipeline: says whether kernels are in use."""
    from ...patching import report

    return bool(report(pipeline))


def using_vocoder_synthesis_optimized(pipeline: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """``using_vocoder_synthesis(semantic_tokens, phones, speed, sample_steps)``: the vocoder in it
    is the patched one; the original one while ``use_vocoder_optimization`` is false."""
    return pipeline.using_vocoder_synthesis(*args, **kwargs)


def methods(pipeline: Any) -> dict[str, PipelineMethod]:
    """The classic methods for one pipeline, by name."""
    functions: list[Callable[..., Any]] = [init_vocoder_optimization]
    if callable(getattr(type(pipeline), "using_vocoder_synthesis", None)):
        functions.append(using_vocoder_synthesis_optimized)
    return {f.__name__: PipelineMethod(f.__name__, f, pipeline) for f in functions}


def _patch_or_raise(vocoder: nn.Module, chunk_frames: int | None) -> None:
    from ...patching import patch

    options = Options.resolve(chunk_frames=chunk_frames)
    outcome = patch(vocoder, options)
    if not outcome and options.enabled:
        why = (
            "; ".join(m.why for m in outcome if m.why) or f"found none in {type(vocoder).__name__}"
        )
        raise NotImplementedError(f"no kernels for this vocoder: {why}")


def _expect_device(vocoder: nn.Module, device: str | torch.device | None) -> torch.device:
    actual = next(vocoder.parameters()).device
    expected = actual if device is None else torch.device(device)
    if expected.type != actual.type or expected.index not in (None, actual.index):
        raise ValueError(
            f"vocoder: expected on {expected}, but it is on {actual}; move it there before"
        )
    return actual
