"""The plan in words, with configurations, for a GPU that is not there."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton")

from planning import A100, program, vocoder  # noqa: E402

from vocoder_kernels.backends.cuda.choose import Chooser, Unsupported  # noqa: E402
from vocoder_kernels.backends.cuda.plan import explain, plan  # noqa: E402
from vocoder_kernels.backends.cuda.window import Limits  # noqa: E402


@pytest.mark.parametrize("version", ("v2", "v4", "v3"))
def test_flops_are_the_vocoders(version):
    """All but the last window's padding: what the graph computes is what the vocoder needs."""
    v = vocoder(version)
    placed = plan(program(v, choose=Chooser(A100, ("triton",))), 64, 2, A100)
    condition = 2 * 2 * v.cond.C_in * v.cond.C_out if v.cond else 0
    assert sum(map(placed.flops, placed.program.launches)) == 2 * v.flops(64) + condition


def test_text():
    v = vocoder("v4")
    found = program(v, choose=Chooser(A100, ("triton",)))
    text = explain(found, 1500, Limits.of(None, v.receptive_field), A100)
    assert text.count("graph launch of") == 2
    assert "1 x 1024 frames" in text and "1 x 512 frames" in text
    assert "TileConfig" in text and "stage0 takes a launch per convolution" in text


def test_a_refusal_names_every_implementation():
    with pytest.raises(Unsupported, match="head: triton: .*not torch.float64"):
        program(vocoder("v4"), torch.float64, Chooser(A100, ("triton",)))
