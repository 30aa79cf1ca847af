"""Comparing an engine with the module it replaces: briefly when patching, thoroughly on request."""

from __future__ import annotations

import copy
from typing import Callable

import torch
from torch import nn

from ..program import Vocoder
from ..runtime.engine import Engine
from .reports import ErrorRow, ErrorTable

CHECK_FRAMES = 3
TABLE_FRAMES = 32
ERROR_FACTOR = 2.0
"""Ours may err twice as much as eager in the same dtype, and a few units in the last place more."""
FLOOR_ULP = 8

_SAME_FUNCTION_SNR_DB = {torch.float32: 60.0, torch.float16: 30.0, torch.bfloat16: 12.0}
"""Rounding stays well above these ratios; a different slope or activation falls far below."""
_SAME_FUNCTION_TF32_SNR_DB = 40.0
"""Eager and ours may each multiply in TF32 on a GPU, with rounding between fp16's and bf16's."""


def random_inputs(
    vocoder: Vocoder, device: torch.device, dtype: torch.dtype, frames: int
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Unit-variance input and condition; the global random state is not touched."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, vocoder.head.C_in, frames, generator=generator)
    g = None
    if vocoder.cond is not None:
        g = torch.randn(1, vocoder.cond.C_in, 1, generator=generator).to(device, dtype)
    return x.to(device, dtype), g


def difference(original: Callable[..., torch.Tensor], engine: Engine) -> str:
    """Why ``engine`` does not compute what ``original`` does, or an empty string.

    One run of each over a few frames. Raises what the engine raises.
    """
    with torch.inference_mode(False), torch.no_grad():
        x, g = random_inputs(engine.vocoder, engine.device, engine.dtype, CHECK_FRAMES)
        arguments = (x,) if g is None else (x, g)
        ours = engine(*arguments)
        try:
            theirs = original(*arguments)
        except (TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
            return f"its forward failed on a random input: {type(error).__name__}: {error}"
    if not isinstance(theirs, torch.Tensor) or theirs.shape != ours.shape:
        got = list(theirs.shape) if isinstance(theirs, torch.Tensor) else type(theirs).__name__
        return f"its forward returns {got} where the family's returns {list(ours.shape)}"
    finite = theirs.isfinite()
    if not finite.any():
        return ""
    snr_db = ErrorRow.of("", "", theirs[finite], ours[finite]).snr_db
    enough_db = _SAME_FUNCTION_SNR_DB.get(engine.dtype, 60.0)
    if engine.device.type == "cuda" and engine.dtype == torch.float32:
        enough_db = _SAME_FUNCTION_TF32_SNR_DB
    if not snr_db >= enough_db:
        return (
            "its forward computes something else than its family's: "
            f"{snr_db:.1f} dB signal to noise on a random input"
        )
    return ""


def error_rows(
    path: str,
    module: nn.Module,
    original: Callable[..., torch.Tensor],
    engine: Engine,
    x: torch.Tensor | None,
    g: torch.Tensor | None,
) -> ErrorTable:
    """Eager in the module's dtype and the engine, both against a float64 copy of the module."""
    device, dtype = engine.device, engine.dtype
    with torch.inference_mode(False), torch.no_grad():
        if x is None:
            x, random_g = random_inputs(engine.vocoder, device, dtype, TABLE_FRAMES)
            g = random_g if g is None else g
        x = x.detach().to(device, dtype)
        arguments = (x,) if g is None else (x, g.detach().to(device, dtype))
        ours, eager = engine(*arguments), original(*arguments)
        # Copied after a forward without gradients: before it, the plain ``.weight`` of old-style
        # weight norm may have a history, and such tensors refuse to be copied.
        exact = copy.deepcopy(module).eval().double()(*(a.double() for a in arguments))
    rows = (
        ErrorRow.of(path, f"eager {_short(dtype)}", exact, eager),
        ErrorRow.of(path, f"ours {_short(dtype)}", exact, ours),
    )
    peak = exact.abs().max().item()
    floor = FLOOR_ULP * torch.finfo(dtype).eps * max(peak, torch.finfo(dtype).tiny)
    ok = all(
        ours_error <= ERROR_FACTOR * eager_error + floor
        for ours_error, eager_error in (
            (rows[1].max_error, rows[0].max_error),
            (rows[1].rms_error, rows[0].rms_error),
        )
    )
    return ErrorTable(rows, ok)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).replace("torch.", "")
