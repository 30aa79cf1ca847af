"""Measured launch configurations, kept on disk. Configurations never change results."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ...ops.support import Target
from ...runtime.memory import Step
from .plan import Plan

logger = logging.getLogger("vocoder_kernels")

LENGTHS = tuple(2**i for i in range(4, 18))
"""Samples for which configurations are asked, from a few to a wide grid."""
LAUNCHES, ROUNDS = 5, 7


def candidates(step: Step, batch: int, target: Target) -> list[Any]:
    """Every configuration that the operation chooses for some length."""
    work = step.desc
    choose = work.choice.module.choose_config
    return list(dict.fromkeys(choose(work.desc, batch, length, target) for length in LENGTHS))


def time_us(launch: Callable[[], None]) -> float:
    """Median microseconds of a launch on the current stream. Waits for the device."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    launch()
    times = []
    for _ in range(ROUNDS):
        start.record()
        for _ in range(LAUNCHES):
            launch()
        end.record()
        end.synchronize()
        times.append(1e3 * start.elapsed_time(end) / LAUNCHES)
    return median(times)


def default_path() -> Path:
    """``$XDG_CACHE_HOME/vocoder_kernels/configurations.json``, by default below ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vocoder_kernels" / "configurations.json"


class Tuner:
    """Configurations of plans on one GPU: from the file, else measured and added to it.

    The file is keyed by GPU, versions, implementation, description and size; an entry that names
    none of the candidates is measured anew.
    """

    def __init__(self, device: torch.device, target: Target, path: Path | None = None) -> None:
        self._target = target
        self._path = default_path() if path is None else path
        self._place = _place(device)
        self._known: dict[str, str] = dict(_read(self._path))

    def configs(
        self, plan: Plan, bind: Callable[[Step, Any], Callable[[], None]]
    ) -> tuple[Any, ...]:
        """The best configuration of every step; ``bind`` makes a launch of a step and a
        configuration, over full windows of whatever values."""
        known = dict(self._known)
        found = tuple(
            config if step.desc is None else self._best(step, plan, bind)
            for step, config in zip(plan.program.steps, plan.configs)
        )
        if self._known != known:
            _write(self._path, self._known)
        return found

    def _best(self, step: Step, plan: Plan, bind: Callable[[Step, Any], Callable[[], None]]) -> Any:
        found = candidates(step, plan.batch, self._target)
        if len(found) == 1:
            return found[0]
        choice = step.desc.choice
        parts = (self._place, choice.op, choice.name, step.desc.desc, plan.batch, plan.frames)
        key = " | ".join(map(str, parts))
        named = {str(config): config for config in found}
        if self._known.get(key) not in named:
            times = {name: time_us(bind(step, config)) for name, config in named.items()}
            self._known[key] = min(times, key=lambda name: times[name])
            logger.debug("tuned %s: %s", key, times)
        return named[self._known[key]]


def _place(device: torch.device) -> str:
    try:
        from triton import __version__ as triton_version
    except ImportError:
        triton_version = "none"
    from importlib.metadata import PackageNotFoundError, version

    try:
        own_version = version("vocoder_kernels")
    except PackageNotFoundError:
        own_version = "unknown"
    name = torch.cuda.get_device_name(device)
    return f"{name} | torch {torch.__version__} | triton {triton_version} | {own_version}"


def _read(path: Path) -> Mapping[str, str]:
    """The file's entries; none if it is missing or cannot be read, which tuning then mends."""
    try:
        entries = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        logger.warning("vocoder_kernels: configurations in %s are ignored: %s", path, error)
        return {}
    return entries if isinstance(entries, dict) else {}


def _write(path: Path, entries: Mapping[str, str]) -> None:
    """Replaced at once, together with what other processes have added meanwhile."""
    merged = {**_read(path), **entries}
    scratch = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch.write_text(json.dumps(merged, indent=0, sort_keys=True))
        scratch.replace(path)
    except OSError as error:
        logger.warning("vocoder_kernels: configurations could not be kept: %s", error)
