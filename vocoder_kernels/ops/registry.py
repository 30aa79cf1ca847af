"""Table of operations and their implementations: dispatch, tests, compile checks iterate over it.

An operation is a folder of ``ops``; its description (``desc.py``) and reference (``reference.py``)
are common to its implementations. An implementation is a module:

* "triton": ``<operation>/launch.py``, needs Triton;
* "cuda": ``<operation>/cuda_launch.py``, needs the CUDA core (importing it needs neither).

Every one has, with the same meaning:

* ``NAME``
* ``can_run(desc, target) -> Support``
* ``choose_config(desc, B, T_cap, target) -> config``: frozen, hashable; only where ``can_run``
* ``pack(weight, ..., dtype)``: weights in the order *this* implementation reads, one flat or shaped
  tensor; the arguments are those of the description's own ``pack``
* ``launch(desc, config, ...)``: the same tensors in the same order for every implementation of an
  operation, weights by its own ``pack``; enqueues on PyTorch's current stream, allocates nothing

Differences: ``tail`` takes the snake of BigVGAN (``TailDesc.snake``) on "cuda" alone;
``residual_unit`` exists on "cuda" alone, for some channel counts (elsewhere: ``residual_conv`` per
convolution, with ``alias_free`` before it for a snake), ``residual_branch`` for fewer (elsewhere:
``residual_unit`` per unit); float32 convolutions run on "triton" alone; ``head`` multiplies a
condition itself (``HeadDesc.C_cond``) on "triton" alone, elsewhere it adds the product.
Biases and filters have no order of their own, but ``residual_unit`` takes filters as host numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from ..backends.base import Support
from .support import Target

IMPLEMENTATIONS: dict[str, tuple[str, ...]] = {
    "head": ("triton", "cuda"),
    "upsample": ("triton", "cuda"),
    "residual_conv": ("triton", "cuda"),
    "residual_unit": ("cuda",),
    "residual_branch": ("cuda",),
    "alias_free": ("cuda", "triton"),
    "tail": ("cuda", "triton"),
}
"""Operation to implementations, preferred first on sm_80 and later; see `preferred`."""

OPERATIONS = tuple(name for name, by in IMPLEMENTATIONS.items() if "triton" in by)
"""Operations that Triton alone can run: with them any vocoder can be composed."""

_MODULES = {"triton": "launch", "cuda": "cuda_launch"}


def operation(name: str, implementation: str = "triton") -> ModuleType:
    """The module of an operation's implementation, see above.

    Raises ``KeyError`` for a pair that is not in `IMPLEMENTATIONS`, ``ImportError`` for "triton"
    where there is no Triton.
    """
    if implementation not in IMPLEMENTATIONS.get(name, ()):
        pairs = ", ".join(f"{op} by {i}" for op, by in IMPLEMENTATIONS.items() for i in by)
        raise KeyError(f"operation: expected one of {pairs}, got {name} by {implementation}")
    return import_module(f"{__package__}.{name}.{_MODULES[implementation]}")


def preferred(name: str, target: Target) -> tuple[str, ...]:
    """The operation's implementations, best first.

    On Turing Triton's matrix product is scalar code: the CUDA core goes first. From Ampere on
    Triton's grouped convolution goes first: with 5 s of v4 and v3 the core's is modelled at 1.0 to
    1.3 of its time on an A100 and 1.1 to 1.3 on an RTX 4090 (benchmarks/modelled_cuda.py and
    modelled_vocoders.py), and on Hopper and data-centre Blackwell mma.sync does not reach all of
    the matrix units.
    """
    order = IMPLEMENTATIONS[name]
    if target.backend == "cuda" and target.arch < 80:
        return tuple(sorted(order, key=lambda i: i != "cuda"))
    return order


def choose(
    name: str, desc: Any, target: Target, allowed: Sequence[str] = ("triton", "cuda")
) -> tuple[str, Support]:
    """The best implementation among ``allowed`` that runs ``desc``, and the reasons of those
    refused before it; ("", why none) where there is none."""
    reasons: list[str] = []
    for implementation in preferred(name, target):
        if implementation not in allowed:
            continue
        try:
            support = operation(name, implementation).can_run(desc, target)
        except ImportError as error:
            support = Support(False, f"{implementation} is not installed ({error})")
        if support:
            return implementation, Support(True, "; ".join(reasons))
        reasons.append(f"{implementation}: {support.reason}")
    return "", Support(False, "; ".join(reasons) or f"{name}: no implementation is allowed")
