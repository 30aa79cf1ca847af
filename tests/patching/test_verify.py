"""verify: errors of eager and of ours against float64."""

from __future__ import annotations

import math

import pytest
import torch
from reference import CONFIGS, build
from torch import nn
from torch_backend import TorchBackend, installed

from vocoder_kernels import patch, verify


def test_a_table_of_both(case, backend):
    patch(case.model)
    table = verify(case.model)
    assert table and [row.what for row in table.rows] == ["eager float32", "ours float32"]
    for row in table.rows:
        assert 0 < row.rms_error < row.max_error < 1e-5 and row.snr_db > 90
    assert "against float64" in str(table) and "SNR dB" in str(table)
    assert verify(case.model, *case.args)


def test_it_compiles_what_is_not_patched_and_leaves_it_alone(hifigan, backend):
    assert verify(hifigan.model)
    assert "forward" not in vars(hifigan.model)


def test_many_vocoders(backend):
    model = nn.ModuleDict({name: build(CONFIGS[name]) for name in ("hifigan", "bigvgan")})
    assert [row.path for row in verify(model).rows] == ["hifigan", "hifigan", "bigvgan", "bigvgan"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_dtypes(hifigan, backend, dtype):
    table = verify(hifigan.model.to(dtype), *(t.to(dtype) for t in hifigan.args))
    assert table and table.rows[1].what == f"ours {str(dtype).replace('torch.', '')}"


class Wrong(TorchBackend):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def compile(self, vocoder, weights, device, dtype, options):
        weights = {n: self.factor * w if n == "conv_post.weight" else w for n, w in weights.items()}
        return super().compile(vocoder, weights, device, dtype, options)


@pytest.mark.parametrize("factor", [1.0001, 1.01, 0.0, math.nan])
def test_an_engine_that_errs_fails(hifigan, factor):
    with installed(Wrong(factor)):
        table = verify(hifigan.model)
    assert not table and table.rows[1].max_error != table.rows[0].max_error


@pytest.mark.parametrize("factor", [1.01, 0.0, math.nan])
def test_patching_compares_once(hifigan, factor):
    with installed(Wrong(factor)):
        outcome = patch(hifigan.model)
    assert [m.status for m in outcome] == ["refused"] and "dB" in outcome.modules[0].why


def test_what_has_no_kernels_says_why():
    with installed(TorchBackend(dtypes=())):
        with pytest.raises(NotImplementedError, match="does not run torch.float32"):
            verify(build(CONFIGS["hifigan"]))
    assert not verify(nn.Linear(2, 2)).rows and "no vocoder" in str(verify(nn.Linear(2, 2)))


def test_the_random_state_of_the_caller_is_not_touched(hifigan, backend):
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    patch(hifigan.model)
    verify(hifigan.model)
    assert torch.equal(torch.rand(4), expected)


def test_the_callers_inputs_are_not_touched(hifigan, backend):
    kept = [t.clone() for t in hifigan.args]
    verify(hifigan.model, *hifigan.args)
    assert all(torch.equal(a, b) for a, b in zip(kept, hifigan.args))
