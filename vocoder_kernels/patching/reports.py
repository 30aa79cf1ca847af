"""What patch, report and verify return: values that print as tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

from ..runtime.window_times import WindowTime

PATCHED = "patched"
FELL_BACK = "fell back"
REFUSED = "refused"
NOT_PATCHED = "not patched"


@dataclass(frozen=True)
class ModuleReport:
    """One vocoder.

    status: "patched" (kernels run it), "fell back" (rebound, but the original forward runs for the
        reason in ``why``), "refused" (left alone for the reason in ``why``) or "not patched".
    statistics: calls, accelerated, updates, builds, failures, and the backend's own counters.
    originals: how many calls ran the original forward, by cause.
    windows: how long windows took, by size.
    """

    path: str
    class_name: str
    family: str
    status: str
    backend: str = ""
    dtype: str = ""
    device: str = ""
    why: str = ""
    statistics: Mapping[str, float] = field(default_factory=dict)
    originals: Mapping[str, int] = field(default_factory=dict)
    windows: tuple[WindowTime, ...] = ()


@dataclass(frozen=True)
class PatchReport:
    """The vocoders of a model. True if kernels run at least one of them."""

    modules: tuple[ModuleReport, ...]

    def __bool__(self) -> bool:
        return any(m.status == PATCHED for m in self.modules)

    def __iter__(self):
        return iter(self.modules)

    def __len__(self) -> int:
        return len(self.modules)

    def __str__(self) -> str:
        if not self.modules:
            return "no vocoder found"
        heads = ("path", "class", "family", "status", "backend", "dtype", "device", "calls")
        rows = [
            (
                m.path,
                m.class_name,
                m.family,
                m.status,
                m.backend,
                m.dtype,
                m.device,
                f"{m.statistics.get('calls', 0):.0f}",
            )
            for m in self.modules
        ]
        lines = table(heads, rows)
        for m in self.modules:
            if m.why:
                lines.append(f"{m.path}: {m.why}")
            for cause, count in m.originals.items():
                lines.append(f"{m.path}: original forward ran {count} times: {cause}")
        return "\n".join(lines + self._windows())

    def _windows(self) -> list[str]:
        """A second table: how long windows took. No lines before any has run."""
        heads = ("path", "windows", "up to frames", "runs", "last us", "median us", "")
        rows = [
            (
                m.path,
                f"{w.batch}",
                f"{w.frames}",
                f"{w.runs}",
                _microseconds(w.last_us),
                _microseconds(w.median_us),
                w.program,
            )
            for m in self.modules
            for w in m.windows
            if w.runs
        ]
        return ["", *table(heads, rows)] if rows else []


@dataclass(frozen=True)
class ErrorRow:
    """Errors of one way to run a vocoder against float64."""

    path: str
    what: str
    max_error: float
    rms_error: float
    snr_db: float

    @classmethod
    def of(cls, path: str, what: str, exact: torch.Tensor, got: torch.Tensor) -> ErrorRow:
        exact = exact.detach().double()
        error = got.detach().double() - exact
        rms_error = error.square().mean().sqrt().item()
        rms = exact.square().mean().sqrt().item()
        if rms_error == 0:
            snr_db = math.inf
        elif math.isnan(rms_error) or rms == 0:
            snr_db = -math.inf
        else:
            snr_db = 20 * math.log10(rms / rms_error)
        return cls(path, what, error.abs().max().item(), rms_error, snr_db)


@dataclass(frozen=True)
class ErrorTable:
    """Errors of the eager module and of ours. True if ours are at most twice eager's."""

    rows: tuple[ErrorRow, ...]
    ok: bool

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        if not self.rows:
            return "no vocoder found"
        rows = [
            (r.path, r.what, f"{r.max_error:.3g}", f"{r.rms_error:.3g}", f"{r.snr_db:.1f}")
            for r in self.rows
        ]
        return "\n".join(table(("path", "against float64", "max", "rms", "SNR dB"), rows))


def _microseconds(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.0f}"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of left-aligned columns with a rule below the heads."""
    widths = [max(map(len, column)) for column in zip(heads, *rows)]
    lines = [heads, ["-" * width for width in widths], *rows]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines
    ]
