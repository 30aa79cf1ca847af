"""What a user sees of the package."""

from __future__ import annotations

import subprocess
import sys

import pytest

import vocoder_kernels


def test_at_most_eight_names_and_all_resolve():
    assert len(vocoder_kernels.__all__) <= 8
    for name in vocoder_kernels.__all__:
        assert callable(getattr(vocoder_kernels, name))
        assert getattr(vocoder_kernels, name).__doc__
    assert set(vocoder_kernels.__all__) <= set(dir(vocoder_kernels))
    with pytest.raises(AttributeError, match="nothing"):
        _ = vocoder_kernels.nothing


def test_import_has_no_side_effects(tmp_path):
    code = (
        "import sys, warnings\n"
        "warnings.simplefilter('error')\n"
        "before = set(sys.modules)\n"
        "import vocoder_kernels\n"
        "new = {m for m in set(sys.modules) - before if m.partition('.')[0] != 'vocoder_kernels'}\n"
        "assert 'torch' not in new and 'numpy' not in new, sorted(new)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_submodules_do_not_hide_functions(tmp_path):
    code = (
        "import vocoder_kernels.patching.api\n"
        "from vocoder_kernels import *\n"
        "import types\n"
        "assert isinstance(patch, types.FunctionType) and isinstance(verify, types.FunctionType)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
