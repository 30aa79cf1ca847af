"""The CUDA core's launches through their Python wrappers, on a device, against float64."""

from __future__ import annotations

import pytest
import torch

from vocoder_kernels import native
from vocoder_kernels.modules.bigvgan import kaiser_sinc_filter
from vocoder_kernels.ops.alias_free import AliasFreeDesc, pack_filters
from vocoder_kernels.ops.head import HeadDesc
from vocoder_kernels.ops.reference import on_valid_rows
from vocoder_kernels.ops.registry import operation
from vocoder_kernels.ops.residual_branch import ResidualBranchDesc
from vocoder_kernels.ops.residual_conv import ResidualConvDesc
from vocoder_kernels.ops.residual_unit import ResidualUnitDesc
from vocoder_kernels.ops.residual_unit import pack_filters as host_filters
from vocoder_kernels.ops.support import Target
from vocoder_kernels.ops.tail import SnakeWeights, TailDesc
from vocoder_kernels.ops.upsample import UpsampleDesc

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(not native.has_cuda(), reason="the CUDA core is not built"),
]
FP16 = torch.float16
RANGES = ((1, 8), (3, 3), (0, 5))
FRAMES = 9
TOLERANCE = {torch.float32: 3e-6, torch.float16: 1e-3}


class Data:
    """Random values on the host; ``put`` moves them to the device."""

    def __init__(self) -> None:
        self.generator = torch.Generator().manual_seed(1)
        self.ranges = torch.tensor(RANGES, dtype=torch.int32)
        self.B = len(RANGES)

    def normal(self, *shape, std=1.0, dtype=torch.float32):
        return (std * torch.randn(*shape, generator=self.generator)).to(dtype)

    def buffer(self, desc, C, dtype=torch.float32):
        T_cap = FRAMES * desc.scale + desc.extra
        x = self.normal(self.B, T_cap, C, dtype=dtype)
        return on_valid_rows(lambda row: row, x, self.ranges, desc.scale, desc.extra).contiguous()


def put(value):
    if isinstance(value, torch.Tensor):
        return value.cuda()
    return [put(v) for v in value]


def double(value):
    if isinstance(value, torch.Tensor):
        return value.double()
    return [double(v) for v in value]


def nan(*shape, dtype):
    return torch.full(shape, float("nan"), dtype=dtype, device="cuda")


def chosen(op, desc):
    module, target = operation(op, "cuda"), Target.of(torch.device("cuda"))
    support = module.can_run(desc, target)
    assert support, support.reason
    return module, module.choose_config(desc, len(RANGES), FRAMES * desc.scale + desc.extra, target)


def expect(got, want, tolerance):
    """``want`` is NaN outside the valid samples, and so must be ``got``."""
    valid = ~want.isnan()
    got = got.cpu().double()
    assert got[~valid].isnan().all()
    assert (got - want)[valid].abs().max() <= tolerance * want[valid].abs().max()


def filters():
    taps = kaiser_sinc_filter(0.25, 0.3, 12).flatten()
    return taps, pack_filters(taps, taps)


def test_head():
    from vocoder_kernels.ops.head.reference import reference

    data = Data()
    desc = HeadDesc(100, 64, 7, FP16, cond=True, slope=0.1)
    module, config = chosen("head", desc)
    x = data.normal(data.B, 100, FRAMES + 4, dtype=FP16)
    source = torch.tensor([[2, 1], [0, 0], [1, 2]], dtype=torch.int32)
    weight = data.normal(64, 100, 7, std=700**-0.5, dtype=FP16)
    bias, cond = data.normal(64), data.normal(data.B, 64)
    out = nan(data.B, FRAMES, 64, dtype=FP16)
    module.launch(
        desc,
        config,
        put(x),
        put(module.pack(weight, FP16)),
        put(bias),
        put(cond),
        put(source),
        put(data.ranges),
        out,
    )
    want = reference(desc, *double([x, weight, bias, cond]), source, data.ranges, FRAMES)
    expect(out, want, TOLERANCE[FP16])


@pytest.mark.parametrize("inputs", (0, 3))
def test_upsample(inputs):
    from vocoder_kernels.ops.upsample.reference import reference

    data = Data()
    desc = UpsampleDesc(
        64, 32, 8, 4, 2, FP16, inputs=inputs, slope_in=0.1, slope_out=0.1, activated=True, scale=3
    )
    module, config = chosen("upsample", desc)
    xs = [data.buffer(desc, 64, torch.float32 if inputs else FP16) for _ in range(max(1, inputs))]
    weight, bias = data.normal(64, 32, 8, std=0.1, dtype=FP16), data.normal(32)
    T_out = FRAMES * desc.scale_out
    stream = nan(data.B, T_out, 32, dtype=torch.float32)
    activated = nan(data.B, T_out, 32, dtype=FP16)
    module.launch(
        desc,
        config,
        put(xs),
        put(module.pack(weight, 4, FP16)),
        put(bias),
        put(data.ranges),
        stream,
        activated,
    )
    want = reference(desc, double(xs), weight.double(), bias.double(), data.ranges, T_out)
    expect(stream, want, TOLERANCE[FP16 if inputs else torch.float32])
    expect(activated, torch.nn.functional.leaky_relu(want, 0.1), TOLERANCE[FP16])


def test_residual_conv():
    from vocoder_kernels.ops.residual_conv.reference import reference

    data = Data()
    desc = ResidualConvDesc(
        64, 64, (11, 3), (5, 1), FP16, residual=True, stream=True, slope=0.1, scale=6
    )
    module, config = chosen("residual_conv", desc)
    xs = [data.buffer(desc, 64, FP16) for _ in range(2)]
    residuals = [data.buffer(desc, 64) for _ in range(2)]
    weights = [data.normal(64, 64, k, std=(64 * k) ** -0.5, dtype=FP16) for k in desc.K]
    bias = data.normal(2, 64)
    streams = [nan(*xs[0].shape, dtype=torch.float32) for _ in range(2)]
    activated = [nan(*xs[0].shape, dtype=FP16) for _ in range(2)]
    module.launch(
        desc,
        config,
        put(xs),
        put(module.pack(weights, FP16)),
        put(bias),
        put(residuals),
        put(data.ranges),
        streams,
        activated,
    )
    wants = reference(desc, *double([xs, weights, bias, residuals]), data.ranges)
    for stream, active, want in zip(streams, activated, wants):
        expect(stream, want, TOLERANCE[torch.float32])
        expect(active, torch.nn.functional.leaky_relu(want, 0.1), TOLERANCE[FP16])


def test_mean_of_residual_convs():
    from vocoder_kernels.ops.residual_conv.reference import reference

    data = Data()
    desc = ResidualConvDesc(
        64, 64, (11, 7, 3), (5, 3, 1), FP16, residual=True, residual_slope=0.1, mean=True,
        stream=True, slope=0.01, scale=6,
    )  # fmt: skip
    module, config = chosen("residual_conv", desc)
    xs, residuals = ([data.buffer(desc, 64, FP16) for _ in desc.K] for _ in range(2))
    weights = [data.normal(64, 64, k, std=(64 * k) ** -0.5, dtype=FP16) for k in desc.K]
    bias = data.normal(3, 64)
    stream, active = (nan(*xs[0].shape, dtype=d) for d in (torch.float32, FP16))
    arguments = put([xs, module.pack(weights, FP16), bias, residuals, data.ranges])
    module.launch(desc, config, *arguments, [stream], [active])
    (want,) = reference(desc, *double([xs, weights, bias, residuals]), data.ranges)
    expect(stream, want, TOLERANCE[torch.float32])
    expect(active, torch.nn.functional.leaky_relu(want, 0.01), TOLERANCE[FP16])


@pytest.mark.parametrize(
    "activation,C,convs",
    [("leaky_relu", 32, 2), ("snake", 24, 2), ("leaky_relu", 96, 1), ("snake", 96, 2)],
)
def test_residual_unit(activation, C, convs):
    from vocoder_kernels.ops.residual_unit.reference import reference

    data, n = Data(), 2
    desc = ResidualUnitDesc(C, (11, 3), (3, 1), FP16, convs, activation, scale=12, extra=1)
    module, config = chosen("residual_unit", desc)
    xs = [data.buffer(desc, C) for _ in range(n)]
    weights = [
        [data.normal(C, C, k, std=(C * k) ** -0.5, dtype=FP16) for _ in range(convs)]
        for k in desc.K
    ]
    bias = data.normal(convs, n, C)
    alpha, inv_beta = (data.normal(convs, n, C, std=0.5).exp() for _ in range(2))
    taps, packed = filters()
    outs = [nan(*xs[0].shape, dtype=torch.float32) for _ in range(n)]
    snake = (alpha, inv_beta) if desc.snake else (None, None)
    module.launch(
        desc,
        config,
        put(xs),
        put(module.pack(weights, FP16)),
        put(bias),
        put(data.ranges),
        outs,
        *(put(s) if s is not None else None for s in snake),
        host_filters(taps, taps),
    )
    snake = double([alpha, inv_beta, packed]) if desc.snake else ()
    wants = reference(desc, *double([xs, weights, bias]), data.ranges, *snake)
    for out, want in zip(outs, wants):
        expect(out, want, TOLERANCE[FP16])


@pytest.mark.parametrize("C,convs", [(16, 2), (24, 2), (32, 2), (32, 1)])
def test_residual_branch(C, convs):
    from vocoder_kernels.ops.residual_branch.reference import reference

    data = Data()
    dilation = ((1, 3, 5), (2, 1)) if convs == 2 else ((1,), (1, 3))
    desc = ResidualBranchDesc(C, (11, 3), dilation, FP16, convs, scale=12, extra=1)
    module, config = chosen("residual_branch", desc)
    x = data.buffer(desc, C)
    weights = [
        [
            [data.normal(C, C, k, std=(C * k) ** -0.5, dtype=FP16) for _ in range(convs)]
            for _ in units
        ]
        for k, units in zip(desc.K, dilation)
    ]
    bias = data.normal(desc.layers, C)
    outs = [nan(*x.shape, dtype=torch.float32) for _ in range(2)]
    module.launch(
        desc,
        config,
        put([x] * 2),
        put(module.pack(weights, FP16)),
        put(bias),
        put(data.ranges),
        outs,
    )
    wants = reference(desc, *double([[x] * 2, weights, bias]), data.ranges)
    for out, want in zip(outs, wants):
        expect(out, want, 2 * TOLERANCE[FP16])


def test_alias_free():
    from vocoder_kernels.ops.alias_free.reference import reference

    data = Data()
    desc = AliasFreeDesc(40, 2, torch.float32, FP16, scale=5)
    module, config = chosen("alias_free", desc)
    xs = [data.buffer(desc, 40) for _ in range(2)]
    alpha, inv_beta = ([data.normal(40, std=0.5).exp() for _ in range(2)] for _ in range(2))
    packed = filters()[1]
    outs = [nan(*xs[0].shape, dtype=FP16) for _ in range(2)]
    module.launch(
        desc, config, put(xs), put(alpha), put(inv_beta), put(packed), put(data.ranges), outs
    )
    for j, out in enumerate(outs):
        want = reference(desc, *double([xs[j], alpha[j], inv_beta[j], packed]), data.ranges)
        expect(out, want, TOLERANCE[FP16])


@pytest.mark.parametrize("snake", (False, True))
def test_tail(snake):
    from vocoder_kernels.ops.tail.reference import reference

    data, C = Data(), 24
    desc = TailDesc(
        C, 7, 3, torch.float32, slope=0.01, bias=True, end="tanh", scale=10, snake=snake
    )
    module, config = chosen("tail", desc)
    xs = [data.buffer(desc, C) for _ in range(3)]
    weight, bias = data.normal(1, C, 7, std=0.1), data.normal(1, std=0.1)
    weights = (
        SnakeWeights(data.normal(C).exp(), data.normal(C).exp(), filters()[1]) if snake else None
    )
    T = FRAMES * desc.scale
    out = nan(data.B, T + 3, dtype=FP16)
    on_device = SnakeWeights(*put(weights)) if weights else None
    module.launch(
        desc,
        config,
        put(xs),
        put(module.pack(weight)),
        put(bias),
        put(data.ranges),
        out[:, : T + 1],
        on_device,
    )
    doubles = SnakeWeights(*double(weights)) if weights else None
    want = reference(desc, double(xs), weight.double(), bias.double(), data.ranges, doubles)
    expect(out[:, :T], want, TOLERANCE[FP16])
    assert out[:, T:].isnan().all()


def test_errors_are_sentences():
    desc = ResidualUnitDesc(40, (3,), (1,), FP16)
    support = operation("residual_unit", "cuda").can_run(desc, Target.of(torch.device("cuda")))
    assert not support and "40 channels" in support.reason
    desc = ResidualConvDesc(64, 64, (3,), (1,), FP16, residual=True, residual_slope=0.0)
    support = operation("residual_conv", "cuda").can_run(desc, Target.of(torch.device("cuda")))
    assert not support and "must be above 0" in support.reason
    with pytest.raises(ValueError, match="conv: expected input channels in eights, got 12"):
        native.extension().cuda_kernels.conv(
            branches=[(0,) * 6 + (3, 1, -1)], ranges=0, B=1, T_cap=4, C_in=12, C_out=8, scale=1,
            extra=0, slope=1.0, undo=0.0, mean=False, dtype=1, tile=0, device=0, stream=0,
        )  # fmt: skip
