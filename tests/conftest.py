"""Shared fixtures; paths of optional tools."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

TESTS = Path(__file__).resolve().parent
sys.path.insert(0, str(TESTS))


def _find_gpusim() -> Path | None:
    """Folder that holds the GPU emulator's package, if there is one."""
    named = os.environ.get("VOCODER_KERNELS_GPUSIM")
    candidates = [Path(named)] if named else [TESTS.parents[1] / "shared" / "gpusim"]
    return next((c.parent for c in candidates if (c / "__init__.py").is_file()), None)


GPUSIM_PARENT = _find_gpusim()
if GPUSIM_PARENT is not None:
    os.environ["VOCODER_KERNELS_GPUSIM"] = str(GPUSIM_PARENT / "gpusim")
    if str(GPUSIM_PARENT) not in sys.path:
        sys.path.append(str(GPUSIM_PARENT))

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def gpusim():
    """The GPU emulator; skips where there is none."""
    if GPUSIM_PARENT is None:
        pytest.skip("needs the GPU emulator: set VOCODER_KERNELS_GPUSIM to its folder")
    import gpusim

    return gpusim
