"""The executor: what it refuses, what it reports, several callers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from native.native_ops import Pool, assert_as_exact_as, conv_weights, pointer, upsample_weights
from torch.nn import functional as F

from vocoder_kernels import native

C_IN, C_MID, C, T, STRIDE = 20, 40, 24, 60, 4


class Chain:
    """Head, upsampling, snake-free tail: [20, T] to 4 T samples."""

    def __init__(self, isa: str):
        self.isa = isa
        self.head = conv_weights(C_MID, C_IN, 7)
        self.up = upsample_weights(C_MID, C, 8, STRIDE)
        self.tail, _ = conv_weights(1, C, 7)
        self.sequence = native.sequence(isa)
        self.sequence.add_head(
            raw=-1,
            act=0,
            slope=0.1,
            C_in=C_IN,
            C_out=C_MID,
            K=7,
            dilation=1,
            w=pointer(self.head[0]),
            bias=pointer(self.head[1]),
        )
        self.sequence.add_upsample(
            x=0,
            raw=-1,
            act=1,
            slope=0.01,
            C_in=C_MID,
            C_out=C,
            K=8,
            stride=STRIDE,
            padding=2,
            w=pointer(self.up[0]),
            bias=pointer(self.up[1]),
        )
        self.sequence.add_tail(x=1, C=C, K=7, w=pointer(self.tail), bias=0.1, clamp=False)

    def reference(self, x: torch.Tensor, cond: torch.Tensor) -> torch.Tensor:
        def as_x(t):
            return t.to(x.dtype)

        y = F.conv1d(x[None], as_x(self.head[0]), as_x(self.head[1]), padding=3)
        y = F.leaky_relu(y + as_x(cond)[:, None], 0.1)
        y = F.conv_transpose1d(y, as_x(self.up[0]), as_x(self.up[1]), stride=STRIDE, padding=2)
        y = F.conv1d(F.leaky_relu(y, 0.01), as_x(self.tail), padding=3)[0, 0]
        return torch.tanh(y + 0.1)

    def pool(self) -> Pool:
        return Pool(self.isa, [(C_MID, T), (C, T * STRIDE)])

    def __call__(self, x, cond=None, threads=1, pool=None, timed=False, T=T):
        out = torch.full((STRIDE * T,), float("nan"))
        pool = pool or self.pool()
        pool.run(self.sequence, T, x=x, cond=cond, out=out, threads=threads, timed=timed)
        return out


def test_a_chain_of_layers(isa):
    chain = Chain(isa)
    x, cond = torch.randn(C_IN, T), torch.randn(C_MID)
    assert chain.sequence.out_length(T) == STRIDE * T
    assert_as_exact_as(
        chain(x, cond), chain.reference(x, cond), chain.reference(x.double(), cond.double())
    )


def test_weights_are_copied(isa):
    chain = Chain(isa)
    x = torch.randn(C_IN, T)
    before = chain(x)
    for tensor in (*chain.head, *chain.up, chain.tail):
        tensor.fill_(float("nan"))
    assert torch.equal(chain(x), before)


def test_callers_at_once_get_their_own_results(isa):
    """One sequence from many Python threads, and several sequences at a time."""
    chains = [Chain(isa) for _ in range(2)]
    inputs = [torch.randn(C_IN, T) for _ in range(12)]
    alone = [chains[i % 2](x) for i, x in enumerate(inputs)]
    with ThreadPoolExecutor(6) as callers:
        jobs = [
            callers.submit(chains[i % 2], inputs[i], None, 1 + i % 3)
            for _ in range(20)
            for i in range(12)
        ]
        for n, job in enumerate(jobs):
            assert torch.equal(job.result(), alone[n % 12])


def test_timings_on_request(isa):
    chain = Chain(isa)
    x = torch.randn(C_IN, T)
    chain(x)
    assert chain.sequence.timings_us() == []
    chain(x, timed=True)
    assert len(chain.sequence.timings_us()) == 3 and min(chain.sequence.timings_us()) > 0
    assert [name.split()[0] for name in chain.sequence.steps()] == ["head", "upsample", "tail"]


def test_memory_is_reported(isa):
    chain = Chain(isa)
    V = native.width(isa)
    floats = 7 * C_IN * -(-C_MID // V) * V + 8 * C_MID * -(-C // V) * V
    assert chain.sequence.packed_bytes() == 4 * floats
    chain(torch.randn(C_IN, T))
    assert chain.sequence.workspace_bytes() > 0


@pytest.mark.parametrize(
    "change,message",
    [
        (dict(T=0), "T must be positive, got 0"),
        (dict(threads=0), "threads must be positive, got 0"),
        (dict(x=0), "head 0 needs x, but its address is 0"),
        (dict(cond=8, cond_size=3), "cond must have 40 values, got 3"),
        (dict(out_size=239), "tail 2 makes 240 samples, but out holds 239"),
        (dict(t_strides=[T - 1, 240]), "head 0 needs 60 rows in slot 0, but its t_stride is 59"),
        (dict(t_strides=[60]), "as many offsets_bytes as t_strides, got 2 and 1"),
        (dict(offsets_bytes=[0], t_strides=[60]), "use 2 slots, got places for 1"),
        (dict(pool_bytes=1000), "but the pool has 1000"),
        (dict(offsets_bytes=[0, 2**62]), "at 4611686018427387904 for slot 1"),
        (dict(t_strides=[2**40, 2**40]), "t_stride of slot 0"),
        (dict(T=2**30), "rows of"),
    ],
)
def test_what_run_refuses(isa, change, message):
    chain, x = Chain(isa), torch.randn(C_IN, T)
    pool, out = chain.pool(), torch.empty(STRIDE * T)
    arguments = dict(
        x=pointer(x),
        stride_c=T,
        stride_t=1,
        T=T,
        cond=0,
        cond_size=0,
        pool=pool.data.data_ptr(),
        pool_bytes=4 * pool.data.numel(),
        offsets_bytes=pool.offsets,
        t_strides=pool.strides,
        out=pointer(out),
        out_size=out.numel(),
        threads=1,
        timed=False,
    )
    chain.sequence.run(**arguments)
    with pytest.raises(ValueError, match=message):
        chain.sequence.run(**{**arguments, **change})


def test_what_add_refuses(isa):
    w, bias = conv_weights(16, 16, 3)
    sequence = native.sequence(isa)
    conv = dict(
        x=0,
        residual=-1,
        addend=-1,
        scale=1.0,
        raw=1,
        act=-1,
        slope=0.0,
        C_in=16,
        C_out=16,
        K=3,
        dilation=1,
        w=pointer(w),
        bias=pointer(bias),
        algorithm=0,
    )
    for change, message in (
        (dict(K=4), "K must be odd"),
        (dict(C_in=0), "C_in must be positive, got 0"),
        (dict(dilation=-1), "dilation must be positive, got -1"),
        (dict(w=0), "address of the weights is 0"),
        (dict(raw=-1), "raw or the activated output, got none"),
        (dict(raw=0), "slot 0 is both read and written"),
        (dict(act=1), "slot 1 is written twice"),
        (dict(raw=-2), "-1 or more, got -2"),
        (dict(algorithm=5), "algorithm must be .*, got 5"),
    ):
        with pytest.raises(ValueError, match=message):
            sequence.add_conv(**{**conv, **change})
    assert sequence.steps() == []


def test_isa_names():
    assert native.best_isa() == native.isas()[0]
    assert native.isas()[-1] == "generic"
    assert native.width("generic") == 8
    with pytest.raises(ValueError, match="expected auto or one of .*generic, got 'mmx'"):
        native.best_isa("mmx")
    with pytest.raises(ValueError, match="'mmx' is not available"):
        native.sequence("mmx")
