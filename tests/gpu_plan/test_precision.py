"""TF32 follows PyTorch's switch for convolutions, in its old form and in its new one."""

from __future__ import annotations

import pytest
import torch

from vocoder_kernels.ops.support import default_precision


@pytest.fixture(autouse=True)
def restored():
    before = torch.backends.cudnn.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32 = before


@pytest.mark.parametrize("allowed, precision", [(True, "tf32"), (False, "ieee")])
def test_old_switch(allowed, precision):
    torch.backends.cudnn.allow_tf32 = allowed
    assert default_precision() == precision


@pytest.mark.skipif(not hasattr(torch.backends.cudnn, "conv"), reason="needs PyTorch 2.9")
@pytest.mark.parametrize("precision", ("tf32", "ieee"))
def test_new_switch_where_the_old_one_cannot_be_read(precision):
    torch.backends.cudnn.rnn.fp32_precision = "ieee" if precision == "tf32" else "tf32"
    torch.backends.cudnn.conv.fp32_precision = precision
    with pytest.raises(RuntimeError):
        torch.backends.cudnn.allow_tf32  # noqa: B018
    assert default_precision() == precision


def test_the_switch_for_matrix_products_is_not_that_for_convolutions():
    torch.backends.cudnn.allow_tf32 = False
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = True
    try:
        assert default_precision() == "ieee"
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before
