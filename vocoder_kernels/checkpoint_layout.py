"""Sizes of a vocoder: off its weights, and what these cannot tell off its configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from .modules import PRESETS, SAMPLE_RATE_HZ, BigVGAN, Generator

State = Mapping[str, torch.Tensor]

DEFAULT_DILATIONS = {"1": (1, 3, 5), "2": (1, 3)}
"""By resblock type, as in the HiFi-GAN paper's configurations."""


class BadCheckpoint(ValueError):
    """A file that holds no vocoder that can be loaded; the message says why."""


@dataclass(frozen=True)
class Layout:
    """Arguments of the module, which preset it equals (or an empty string), what was assumed."""

    arguments: dict[str, Any]
    version: str
    notes: tuple[str, ...]

    @property
    def is_bigvgan(self) -> bool:
        return "num_mels" in self.arguments

    def build(self) -> nn.Module:
        return (BigVGAN if self.is_bigvgan else Generator)(**self.arguments)


def fold_weight_norm(state: State) -> dict[str, torch.Tensor]:
    """Plain float32 weights from plain, old-style (``_g``, ``_v``) or parametrized ones.

    Raises `BadCheckpoint` for a magnitude without its direction or the other way round, and for
    what are no real numbers.
    """
    direction_of = {
        ".weight_g": ".weight_v",
        ".parametrizations.weight.original0": ".parametrizations.weight.original1",
    }
    magnitude_of = {v: g for g, v in direction_of.items()}
    out = {}
    for name, tensor in state.items():
        if not tensor.is_floating_point():
            raise BadCheckpoint(f"{name}: expected floating-point numbers, got {tensor.dtype}")
        for magnitude, direction in direction_of.items():
            if name.endswith(magnitude):
                stem = name[: -len(magnitude)]
                if stem + direction not in state:
                    raise BadCheckpoint(f"{name} has no {stem + direction} beside it")
                v, g = state[stem + direction].float(), tensor.float()
                out[stem + ".weight"] = torch._weight_norm(v, g, 0)
                break
            if name.endswith(direction):
                stem = name[: -len(direction)]
                if stem + magnitude_of[direction] not in state:
                    raise BadCheckpoint(f"{name} has no magnitude beside it")
                break
        else:
            out[name] = tensor.float()
    return out


def read_layout(state: State, config: Mapping[str, Any]) -> Layout:
    """``state``: folded weights. ``config``: the model section of a checkpoint or a config.json,
    possibly empty.

    Raises `BadCheckpoint` if a size can be read from neither.
    """
    sizes = _sizes(state)
    version = _matching_preset(sizes, config)
    preset: Mapping[str, Any] = PRESETS.get(version, {})
    notes = []
    rates = config.get("upsample_rates", preset.get("upsample_rates"))
    if rates is None:
        raise BadCheckpoint(
            f"upsample kernels {sizes['upsample_kernel_sizes']} are those of no known version, and "
            "weights do not tell upsample_rates; pass the model's config.json with --config"
        )
    rates = _whole_numbers("upsample_rates", rates)
    if "upsample_rates" not in config:
        notes.append(f"upsample_rates {list(rates)} assumed, as in {version}")
    if len(rates) != len(sizes["upsample_kernel_sizes"]):
        raise BadCheckpoint(
            f"configuration has {len(rates)} upsample_rates, but the weights have "
            f"{len(sizes['upsample_kernel_sizes'])} ups"
        )
    for rate, kernel in zip(rates, sizes["upsample_kernel_sizes"]):
        if rate > kernel:
            raise BadCheckpoint(f"upsample rate {rate} is above its kernel size, {kernel}")
    arguments = {**sizes, "upsample_rates": rates}
    arguments["resblock_dilation_sizes"] = _dilations(state, sizes, config, notes)
    if "num_mels" in sizes:
        # A configuration that lacks the key is older than the key, and means tanh.
        assumed: Mapping[str, Any] = {} if config else preset
        logscale = config.get("snake_logscale", assumed.get("snake_logscale", True))
        tanh = config.get("use_tanh_at_final", assumed.get("use_tanh_at_final", True))
        arguments.update(snake_logscale=bool(logscale), use_tanh_at_final=bool(tanh))
        if not config:
            end = "tanh" if tanh else "clamp"
            notes.append(f"snake_logscale {bool(logscale)} and an end of {end} assumed")
    return Layout(arguments, version if preset == arguments else "", tuple(notes))


def sample_rate_hz(layout: Layout, config: Mapping[str, Any]) -> int | None:
    """From the configuration, else from the version whose layout this is, else None."""
    rate = config.get("sampling_rate", SAMPLE_RATE_HZ.get(layout.version))
    return _whole_numbers("sampling_rate", [rate])[0] if rate else None


def _whole_numbers(name: str, values: Any) -> tuple[int, ...]:
    """Raises `BadCheckpoint` unless ``values`` is a list of numbers of at least 1."""
    if not isinstance(values, (list, tuple)) or any(
        isinstance(v, bool) or not isinstance(v, int) or v < 1 for v in values
    ):
        raise BadCheckpoint(f"{name}: expected whole numbers of at least 1, got {values}")
    return tuple(values)


def _sizes(state: State) -> dict[str, Any]:
    pre = _tensor(state, "conv_pre.weight")
    bigvgan = any(name.startswith("activation_post.") for name in state)
    ups_pattern = r"ups\.(\d+)\.0\.weight" if bigvgan else r"ups\.(\d+)\.weight"
    ups = _numbered(state, ups_pattern)
    blocks = _count(state, r"resblocks\.(\d+)\.")
    if not ups or not blocks or blocks % len(ups):
        raise BadCheckpoint(
            f"expected as many resblocks for each of the ups, got {len(ups)} ups and "
            f"{blocks} resblocks"
        )
    kind = "1" if any(".convs1." in name for name in state) else "2"
    first = "convs1.0" if kind == "1" else "convs.0"
    kernels = [
        _tensor(state, f"resblocks.{i}.{first}.weight").shape[2] for i in range(blocks // len(ups))
    ]
    sizes: dict[str, Any] = {
        "resblock": kind,
        "resblock_kernel_sizes": tuple(kernels),
        "upsample_initial_channel": pre.shape[0],
        "upsample_kernel_sizes": tuple(w.shape[2] for w in ups),
    }
    has_bias = "conv_post.bias" in state
    if bigvgan:
        beta = any(name.endswith(".act.beta") for name in state)
        activation = "snakebeta" if beta else "snake"
        sizes.update(num_mels=pre.shape[1], activation=activation, use_bias_at_final=has_bias)
    else:
        sizes["initial_channel"] = pre.shape[1]
        if has_bias:
            sizes["is_bias"] = True
        if "cond.weight" in state:
            sizes["gin_channels"] = state["cond.weight"].shape[1]
    return sizes


def _dilations(
    state: State, sizes: Mapping[str, Any], config: Mapping[str, Any], notes: list[str]
) -> tuple[tuple[int, ...], ...]:
    stem = "convs1" if sizes["resblock"] == "1" else "convs"
    counts = [
        _count(state, rf"resblocks\.{j}\.{stem}\.(\d+)\.")
        for j in range(len(sizes["resblock_kernel_sizes"]))
    ]
    given = config.get("resblock_dilation_sizes")
    if given is None:
        default = DEFAULT_DILATIONS[sizes["resblock"]]
        given = [default] * len(counts)
        notes.append(f"resblock dilations {list(default)} assumed")
    if not isinstance(given, (list, tuple)):
        raise BadCheckpoint(f"resblock_dilation_sizes: expected lists, got {given}")
    dilations = tuple(_whole_numbers("resblock_dilation_sizes", branch) for branch in given)
    if [len(branch) for branch in dilations] != counts:
        raise BadCheckpoint(
            f"resblocks hold {counts} convolutions per branch, which dilations {given} do not fit; "
            "pass the model's config.json with --config"
        )
    return dilations


def _matching_preset(sizes: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """The version with the same sizes, or with other widths but the same upsampling kernels."""
    alike = ""
    for version, preset in PRESETS.items():
        rates = tuple(config.get("upsample_rates", preset["upsample_rates"]))
        same_family = ("num_mels" in preset) == ("num_mels" in sizes)
        if not same_family or rates != tuple(preset["upsample_rates"]):
            continue
        if all(preset.get(name) == value for name, value in sizes.items()):
            return version
        if preset["upsample_kernel_sizes"] == sizes["upsample_kernel_sizes"]:
            alike = alike or version
    return alike


def _tensor(state: State, name: str) -> torch.Tensor:
    if name not in state or state[name].dim() != 3:
        raise BadCheckpoint(f"expected a vocoder's weights, but {name} is missing or not 3-D")
    return state[name]


def _count(state: State, pattern: str) -> int:
    found = {int(m.group(1)) for m in (re.match(pattern, name) for name in state) if m}
    if found != set(range(len(found))):
        raise BadCheckpoint(f"layers {pattern} are numbered with gaps: {sorted(found)}")
    return len(found)


def _numbered(state: State, pattern: str) -> list[torch.Tensor]:
    names = {int(m.group(1)): m.group(0) for m in (re.fullmatch(pattern, n) for n in state) if m}
    return [_tensor(state, names[i]) for i in sorted(names)]
