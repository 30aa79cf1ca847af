"""Every setting in one frozen dataclass: the only reader of ``VOCODER_KERNELS_*`` variables."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

BACKENDS = ("auto", "cpu", "cuda")
INSTRUCTION_SETS = ("auto", "avx512", "avx2", "generic")
PREFIX = "VOCODER_KERNELS_"


@dataclass(frozen=True)
class Options:
    """Settings of a patch. An environment variable ``VOCODER_KERNELS_<NAME>`` overrides a default,
    an argument given to `patch` overrides both.

    enabled: False runs the original forward.
    backend: "auto" follows the model's device.
    chunk_frames: most frames of input that one window keeps; None lets the backend choose.
    strict: raise instead of falling back.
    verify: compare once with the original forward on a short random input when patching.
    isa: instruction set of the CPU kernels.
    threads: CPU threads; None follows ``torch.get_num_threads()``.
    packed_mib: most memory for transformed CPU weights; beyond it, slower and smaller packings.
    cuda_graphs: replay captured graphs; False launches every kernel from the host.
    autotune: measure launch configurations at the first call of each size, and keep them on disk.
    join_requests: most requests of different threads that are run as one ragged batch; None runs
        each alone.
    join_wait_ms: how long a lone request waits for others to join it; None does not wait, and joins
        only what has queued while another batch ran.
    """

    enabled: bool = True
    backend: str = "auto"
    chunk_frames: int | None = None
    strict: bool = False
    verify: bool = True
    isa: str = "auto"
    threads: int | None = None
    packed_mib: int | None = None
    cuda_graphs: bool = True
    autotune: bool = False
    join_requests: int | None = None
    join_wait_ms: int | None = None

    def __post_init__(self) -> None:
        _one_of("backend", self.backend, BACKENDS)
        _one_of("isa", self.isa, INSTRUCTION_SETS)
        for name in ("chunk_frames", "threads", "packed_mib", "join_requests", "join_wait_ms"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
                raise TypeError(f"{name}: expected a whole number or None, got {value!r}")
            if value is not None and value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        for name in ("enabled", "strict", "verify", "cuda_graphs", "autotune"):
            value = getattr(self, name)
            if not isinstance(value, bool):
                raise TypeError(f"{name}: expected True or False, got {value!r}")

    @classmethod
    def resolve(
        cls,
        environ: Mapping[str, str] | None = None,
        defaults: Mapping[str, Any] | None = None,
        **arguments: Any,
    ) -> Options:
        """Defaults (those given first), then environment, then the arguments that are not None.

        Raises ``ValueError`` naming the variable for a value that cannot be read, else as
        `changed`.
        """
        options = cls(**(defaults or {}))
        source = os.environ if environ is None else environ
        for field in fields(cls):
            variable = PREFIX + field.name.upper()
            text = source.get(variable, "").strip()
            if text:
                options = _changed_by(options, field.name, variable, text, str(field.type))
        return options.changed(**arguments)

    def changed(self, **arguments: Any) -> Options:
        """With the arguments that are not None in place.

        Raises ``TypeError`` for one that there is not, ``TypeError`` or ``ValueError`` for a value
        that it cannot have.
        """
        known = sorted(f.name for f in fields(self))
        unknown = sorted(set(arguments) - set(known))
        if unknown:
            raise TypeError(f"options: unknown {', '.join(unknown)}; known are {', '.join(known)}")
        return replace(self, **{k: v for k, v in arguments.items() if v is not None})


def _one_of(name: str, value: object, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ValueError(f"{name}: expected one of {', '.join(allowed)}, got {value!r}")


def _changed_by(options: Options, name: str, variable: str, text: str, kind: str) -> Options:
    value = _parse(variable, text, kind)
    try:
        return replace(options, **{name: value})
    except ValueError as error:
        raise ValueError(str(error).replace(name, variable, 1)) from None


def _parse(variable: str, text: str, kind: str) -> Any:
    if kind.startswith("bool"):
        words = {"1": True, "true": True, "on": True, "yes": True}
        words.update({"0": False, "false": False, "off": False, "no": False})
        if text.lower() not in words:
            raise ValueError(f"{variable}: expected on or off, got {text!r}")
        return words[text.lower()]
    if kind.startswith("int"):
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"{variable}: expected a whole number, got {text!r}") from None
    return text
