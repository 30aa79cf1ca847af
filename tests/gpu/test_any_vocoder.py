"""Vocoders of odd sizes: any number of channels, branches and units, any stride and kernel."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import configs
from vocoders import assert_contract, case

EXAMPLES = 4
"""Each compiles a score of kernels."""


@settings(max_examples=EXAMPLES, derandomize=True)
@given(config=configs(), dtype=st.sampled_from([torch.float16, torch.float32]))
def test_right_and_the_same_in_windows(config, dtype):
    torch.manual_seed(0)
    c = case(config, dtype, frames=7, batch=2)
    got = c.engine()(*c.args)
    assert_contract(got, c.eager(), c.exact())
    assert torch.equal(c.engine(chunk_frames=3)(*c.args), got)
