"""Loading vocoders and their inputs from files, safely: no code in a file is ever run."""

from __future__ import annotations

import io
import json
import pickle
import re
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from .checkpoint_layout import BadCheckpoint, fold_weight_norm, read_layout, sample_rate_hz

ZIP_MAGIC = b"PK"
VERSION_OF_HEADER = {b"00": "v1", b"01": "v2", b"02": "v3", b"03": "v3", b"04": "v4"}
VERSION_OF_HEADER.update({b"05": "v2Pro", b"06": "v2ProPlus"})
"""GPT-SoVITS writes its model version over the first two bytes of the zip archive."""

CONTAINERS = ("weight", "generator", "state_dict", "model")
PREFIXES = ("", "dec.", "module.", "vocoder.", "generator.")

BROKEN_FILE = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What reading a damaged file may raise."""


class _Settings:
    """Stands in for the ``HParams`` objects in GPT-SoVITS checkpoints: attributes, no behaviour."""


_Settings.__module__, _Settings.__name__, _Settings.__qualname__ = "utils", "HParams", "HParams"


@dataclass(frozen=True)
class LoadedVocoder:
    """``rate_hz`` is None if neither the file nor its configuration tells it."""

    module: nn.Module
    version: str
    rate_hz: int | None
    notes: tuple[str, ...]


def load_vocoder(path: str | Path, config_path: str | Path | None = None) -> LoadedVocoder:
    """The vocoder of a checkpoint, float32 on the CPU, in eval mode, weight norm folded.

    Understands SoVITS models, v4's ``vocoder.pth``, ``bigvgan_generator.pt``, bare state dicts and
    safetensors, with ``config.json`` beside the file or at ``config_path``. Raises `BadCheckpoint`
    for a file that is none of these, ``FileNotFoundError`` if there is none.
    """
    path = Path(path)
    content, header_version = _read(path)
    state = find_state(content, path, header_version)
    config = _model_config(content)
    beside = path.parent / "config.json"
    if config_path is not None:
        config = {**config, **_model_config({"config": _read_json(Path(config_path))})}
    elif not config and beside.is_file():
        config = _model_config({"config": _read_json(beside)})
    try:
        state = fold_weight_norm(state)
        layout = read_layout(state, config)
        module = layout.build()
        module.load_state_dict(state, strict=True)
        rate = sample_rate_hz(layout, config)
    except BadCheckpoint as error:
        raise BadCheckpoint(f"{path}: {error}") from None
    except (RuntimeError, TypeError, ZeroDivisionError) as error:
        raise BadCheckpoint(f"{path}: weights and configuration do not fit: {error}") from error
    version = config.get("version") or header_version or layout.version
    return LoadedVocoder(module.eval(), str(version), rate, layout.notes)


def find_state(content: Any, path: Path, version: str = "") -> dict[str, torch.Tensor]:
    """The vocoder's own state dict out of what a file holds, without the prefix of its names."""
    holders = [content]
    if isinstance(content, Mapping):
        holders = [content[k] for k in CONTAINERS if isinstance(content.get(k), Mapping)]
        holders.append(content)
    for holder in holders:
        if not isinstance(holder, Mapping):
            continue
        for prefix in PREFIXES:
            if any(str(name).startswith(prefix + "conv_pre.") for name in holder):
                return {
                    name[len(prefix) :]: value
                    for name, value in holder.items()
                    if str(name).startswith(prefix) and isinstance(value, torch.Tensor)
                }
    if version in ("v3", "v4"):
        raise BadCheckpoint(
            f"{path}: a SoVITS {version} model holds no vocoder; pass the vocoder's own file "
            "(bigvgan_generator.pt for v3, vocoder.pth for v4)"
        )
    raise BadCheckpoint(f"{path}: found no vocoder in it: expected weights named conv_pre.*")


def load_input(path: str | Path, channels: int) -> torch.Tensor:
    """A mel or latent ``[B, channels, T]`` float32 from .npy, .npz or .pt.

    ``[channels, T]`` gets a batch dimension, ``[T, channels]`` is transposed. Raises ``ValueError``
    for a file that holds anything else.
    """
    path = Path(path)
    x = _read_tensor(path)
    if x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{path}: expected real numbers, got {x.dtype}")
    if x.dim() == 2:
        x = x[None]
    if x.dim() == 3 and x.shape[1] != channels and x.shape[2] == channels:
        x = x.transpose(1, 2)
    if x.dim() != 3 or x.shape[1] != channels:
        raise ValueError(f"{path}: expected [{channels}, T], got {list(x.shape)}")
    if x.shape[2] < 1:
        raise ValueError(f"{path}: expected at least one frame, got {list(x.shape)}")
    return x.float().contiguous()


def load_condition(path: str | Path, channels: int) -> torch.Tensor:
    """A speaker vector ``[1, channels, 1]`` float32 from .npy, .npz or .pt of any such shape."""
    g = _read_tensor(Path(path)).float()
    if g.numel() != channels:
        raise ValueError(f"{path}: expected {channels} values, got shape {list(g.shape)}")
    return g.reshape(1, channels, 1)


def _read(path: Path) -> tuple[Any, str]:
    """What a checkpoint holds, and the model version in its header or an empty string."""
    _must_exist(path)
    if path.suffix == ".safetensors":
        return _read_safetensors(path), ""
    with path.open("rb") as file:
        header = file.read(2)
        version = VERSION_OF_HEADER.get(header, "")
        source: Any = io.BytesIO(ZIP_MAGIC + file.read()) if version else path
    return _torch_load(source, path), version


def _torch_load(source: Any, path: Path) -> Any:
    allow = getattr(torch.serialization, "safe_globals", None)
    try:
        with allow([_Settings]) if allow else nullcontext():
            return torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise BadCheckpoint(f"{path}: {_unsafe(error)}") from error
    except BROKEN_FILE as error:
        raise BadCheckpoint(f"{path}: not a PyTorch file: {_first_sentence(error)}") from error


def _unsafe(error: pickle.UnpicklingError) -> str:
    """PyTorch's own message advises to load such a file unsafely."""
    named = re.search(r"GLOBAL (\S+)|[Uu]nsupported class (\S+)", str(error))
    if named is None:
        return "not a PyTorch file"
    return (
        f"cannot be loaded safely: it holds {named[1] or named[2]}, and only tensors and plain "
        "settings are read"
    )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise ImportError(
            f"{path}: reading it needs safetensors: pip install safetensors"
        ) from None
    try:
        return load_file(path)
    except SafetensorError as error:
        raise BadCheckpoint(f"{path}: not a safetensors file: {error}") from error


def _read_tensor(path: Path) -> torch.Tensor:
    _must_exist(path)
    if path.suffix in (".npy", ".npz"):
        return _read_numpy(path)
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"{path}: expected a file of type .npy, .npz, .pt or .pth")
    content = _torch_load(path, path)
    if isinstance(content, Mapping):
        tensors = {k: v for k, v in content.items() if isinstance(v, torch.Tensor)}
        content = _only(path, tensors)
    if not isinstance(content, torch.Tensor):
        raise ValueError(f"{path}: expected a tensor, got {type(content).__name__}")
    return content


def _read_numpy(path: Path) -> torch.Tensor:
    try:
        content = np.load(path, allow_pickle=False)
        array = content if isinstance(content, np.ndarray) else _only(path, dict(content))
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: cannot be read as numbers: {_first_sentence(error)}") from error
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{path}: expected real numbers, got {array.dtype}")
    return torch.from_numpy(np.ascontiguousarray(array, dtype=np.float32))


def _only(path: Path, named: Mapping[str, Any]) -> Any:
    for name in ("mel", "x", "z", "g"):
        if name in named:
            return named[name]
    if len(named) != 1:
        names = ", ".join(map(str, named)) or "none"
        raise ValueError(f"{path}: expected one array or one named mel, x, z or g; it has {names}")
    return next(iter(named.values()))


def _model_config(content: Any) -> dict[str, Any]:
    """The flat settings of a vocoder: of ``config``, its ``model`` and ``data`` sections."""
    config = _plain(content.get("config")) if isinstance(content, Mapping) else None
    if not isinstance(config, dict):
        return {}
    merged: dict[str, Any] = {}
    for section in (config, config.get("data"), config.get("model")):
        if isinstance(section, dict):
            merged.update({k: v for k, v in section.items() if not isinstance(v, dict)})
    return merged


def _plain(value: Any) -> Any:
    """Nested settings as plain dictionaries and lists."""
    if isinstance(value, _Settings):
        value = vars(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value


def _read_json(path: Path) -> Any:
    _must_exist(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BadCheckpoint(f"{path}: not valid JSON: {error}") from error


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file")


def _first_sentence(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0] or type(error).__name__
