"""Tables, units and options that the commands share."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

NUMBER_STARTS = tuple("0123456789+-.<")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], indent: str = "") -> str:
    """Columns of text to the left, columns of numbers to the right."""
    columns = list(zip(heads, *rows))
    widths = [max(map(len, column)) for column in columns]
    numeric = [all(c.startswith(NUMBER_STARTS) or not c for c in column[1:]) for column in columns]
    lines = [heads, ["-" * width for width in widths], *rows]
    return "\n".join(
        indent
        + "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric)
        ).rstrip()
        for line in lines
    )


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.1f} ms" if seconds < 10 else f"{seconds:.1f} s"


def error(value: float) -> str:
    return f"{value:.1e}"


def decibels(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.1f} dB"


def json_line(value: dict[str, Any]) -> None:
    """One object on one line; infinities become null, which JSON lacks."""
    print(json.dumps(_finite(value)), flush=True)


def note(text: str) -> None:
    """For people, not for pipes."""
    print(text, file=sys.stderr, flush=True)


def whole_number(least: int):
    """An argparse type."""

    def parse(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"expected a whole number, got {text!r}") from None
        if value < least:
            raise argparse.ArgumentTypeError(f"expected at least {least}, got {value}")
        return value

    return parse


def positive(text: str) -> float:
    """An argparse type."""
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected a number, got {text!r}") from None
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"expected more than 0, got {text}")
    return value


def choices(allowed: Sequence[str]):
    """An argparse type: comma-separated names out of ``allowed``."""

    def parse(text: str) -> list[str]:
        names = [name.strip().lower() for name in text.split(",") if name.strip()]
        unknown = [name for name in names if name not in allowed]
        if unknown or not names:
            raise argparse.ArgumentTypeError(
                f"expected names out of {', '.join(allowed)}; got {text!r}"
            )
        return names

    return parse


def add_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--threads", type=whole_number(1), metavar="N", help="CPU threads (default: PyTorch's)"
    )


def add_json(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--json", action="store_true", help=f"print {what} instead of text")


def set_threads(threads: int | None) -> int:
    """Applies ``--threads``; returns how many there are now."""
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
    return torch.get_num_threads()


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
