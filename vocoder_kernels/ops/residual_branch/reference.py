from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import torch
from torch.nn import functional as F

from ..reference import on_valid_rows
from .desc import ResidualBranchDesc


def reference(
    desc: ResidualBranchDesc,
    inputs: Sequence[torch.Tensor],
    weights: Sequence[Sequence[Sequence[torch.Tensor]]],
    bias: torch.Tensor,
    ranges: torch.Tensor,
) -> list[torch.Tensor]:
    """Every branch's stream in the inputs' dtype, NaN outside the valid samples.

    ``weights[j][k][i]`` is PyTorch's ``[C, C, K_j]`` of convolution i of branch j's unit k, the
    rest as in `cuda_launch.launch`.
    """
    vectors: Iterator[torch.Tensor] = iter(bias)

    def unit(
        kernels: Sequence[torch.Tensor],
        biases: Sequence[torch.Tensor],
        dilation: int,
        row: torch.Tensor,
    ) -> torch.Tensor:
        y = row
        for i, (weight, vector) in enumerate(zip(kernels, biases)):
            d = dilation if i == 0 else 1
            padding = d * (weight.shape[2] - 1) // 2
            y = F.conv1d(F.leaky_relu(y, desc.slope), weight, vector, padding=padding, dilation=d)
        return row + y

    outputs = []
    for x, branch, dilations in zip(inputs, weights, desc.dilation):
        for kernels, dilation in zip(branch, dilations):
            biases = [next(vectors) for _ in kernels]
            whole = partial(unit, kernels, biases, dilation)
            x = on_valid_rows(whole, x, ranges, desc.scale, desc.extra)
        outputs.append(x)
    return outputs
