from __future__ import annotations

import pytest

from vocoder_kernels import native


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "isa" in metafunc.fixturenames:
        metafunc.parametrize("isa", native.isas() if native.available() else ["none"])


@pytest.fixture(autouse=True)
def _needs_the_extension() -> None:
    if not native.available():
        pytest.skip("the native kernels were not built (VOCODER_KERNELS_NATIVE=off?)")
