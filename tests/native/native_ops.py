"""One layer at a time through the extension, and its float64 references."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from vocoder_kernels import native

GUARD_ROWS = 3


def pointer(tensor: torch.Tensor | None) -> int:
    if tensor is None:
        return 0
    assert tensor.dtype == torch.float32
    return tensor.data_ptr()


class Pool:
    """Slots in one allocation that starts as NaN; rows and floats between slots must stay NaN."""

    def __init__(self, isa: str, slots: list[tuple[int, int]]):
        """slots: (channels, rows) each."""
        self.V = native.width(isa)
        self.slots = slots
        self.offsets, self.strides, total = [], [], GUARD_ROWS * self.V
        for channels, rows in slots:
            self.offsets.append(4 * total)
            self.strides.append(rows + GUARD_ROWS)
            total += self.blocks(channels) * (rows + GUARD_ROWS) * self.V
        self.data = torch.full((total,), float("nan"))

    def blocks(self, channels: int) -> int:
        return -(-channels // self.V)

    def view(self, slot: int) -> torch.Tensor:
        """``[blocks, rows, V]``."""
        channels, rows = self.slots[slot]
        blocks, stride, start = self.blocks(channels), self.strides[slot], self.offsets[slot] // 4
        flat = self.data[start : start + blocks * stride * self.V]
        return flat.view(blocks, stride, self.V)[:, :rows]

    def put(self, slot: int, x: torch.Tensor) -> None:
        """``x: [C, T]``."""
        channels, rows = self.slots[slot]
        padded = torch.zeros(self.blocks(channels) * self.V, rows)
        padded[:channels] = x
        self.view(slot).copy_(padded.view(-1, self.V, rows).transpose(1, 2))

    def get(self, slot: int) -> torch.Tensor:
        """``[C, T]``; the padding channels must be zero."""
        channels, rows = self.slots[slot]
        x = self.view(slot).transpose(1, 2).reshape(-1, rows)
        assert (x[channels:] == 0).all(), "padding channels must stay zero"
        return x[:channels].clone()

    def check_guards(self) -> None:
        copy = self.data.clone()
        for slot, (channels, rows) in enumerate(self.slots):
            blocks, stride, start = (
                self.blocks(channels),
                self.strides[slot],
                self.offsets[slot] // 4,
            )
            flat = copy[start : start + blocks * stride * self.V]
            flat.view(blocks, stride, self.V)[:, :rows] = float("nan")
        assert copy.isnan().all(), "a kernel wrote outside its rows"

    def run(
        self,
        sequence: native.NativeSequence,
        T: int,
        x: torch.Tensor | None = None,
        cond: torch.Tensor | None = None,
        out: torch.Tensor | None = None,
        threads: int = 1,
        timed: bool = False,
    ) -> None:
        sequence.run(
            x=pointer(x),
            stride_c=0 if x is None else x.stride(0),
            stride_t=0 if x is None else x.stride(1),
            T=T,
            cond=pointer(cond),
            cond_size=0 if cond is None else cond.numel(),
            pool=self.data.data_ptr(),
            pool_bytes=4 * self.data.numel(),
            offsets_bytes=self.offsets,
            t_strides=self.strides,
            out=pointer(out),
            out_size=0 if out is None else out.numel(),
            threads=threads,
            timed=timed,
        )


def leaky(x: torch.Tensor, slope: float) -> torch.Tensor:
    return F.leaky_relu(x, slope)


def conv_weights(C_out: int, C_in: int, K: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(C_out, C_in, K) / (C_in * K) ** 0.5, torch.randn(C_out)


def upsample_weights(C_in: int, C_out: int, K: int, stride: int):
    return torch.randn(C_in, C_out, K) / (C_in * max(K / stride, 1)) ** 0.5, torch.randn(C_out)


def run_upsample(isa, x, w, bias, stride, padding, slope=0.1, threads=1):
    """Raw and activated output of one upsampling of ``x: [C_in, T]``."""
    (C_in, C_out, K), T = w.shape, x.shape[1]
    T_out = (T - 1) * stride - 2 * padding + K
    pool = Pool(isa, [(C_in, T), (C_out, T_out), (C_out, T_out)])
    pool.put(0, x)
    sequence = native.sequence(isa)
    sequence.add_upsample(
        x=0,
        raw=1,
        act=2,
        slope=slope,
        C_in=C_in,
        C_out=C_out,
        K=K,
        stride=stride,
        padding=padding,
        w=pointer(w),
        bias=pointer(bias),
    )
    pool.run(sequence, T, threads=threads)
    pool.check_guards()
    return pool.get(1), pool.get(2)


def run_head(isa, x, w, bias, cond=None, slope=0.1, threads=1):
    (C_out, C_in, K), T = w.shape, x.shape[1]
    pool = Pool(isa, [(C_out, T), (C_out, T)])
    sequence = native.sequence(isa)
    sequence.add_head(
        raw=0,
        act=1,
        slope=slope,
        C_in=C_in,
        C_out=C_out,
        K=K,
        dilation=1,
        w=pointer(w),
        bias=pointer(bias),
    )
    pool.run(sequence, T, x=x, cond=cond, threads=threads)
    pool.check_guards()
    return pool.get(0), pool.get(1)


def run_snake(isa, x, alpha, inv_beta, up, down, threads=1):
    C, T = x.shape
    pool = Pool(isa, [(C, T), (C, T)])
    pool.put(0, x)
    sequence = native.sequence(isa)
    sequence.add_snake(
        x=0,
        y=1,
        C=C,
        alpha=pointer(alpha),
        inv_beta=pointer(inv_beta),
        up=pointer(up),
        down=pointer(down),
    )
    pool.run(sequence, T, threads=threads)
    pool.check_guards()
    return pool.get(1)


def run_tail(isa, x, w, bias=0.0, clamp=False, threads=1):
    C, T = x.shape
    pool = Pool(isa, [(C, T)])
    pool.put(0, x)
    sequence = native.sequence(isa)
    sequence.add_tail(x=0, C=C, K=w.shape[2], w=pointer(w), bias=bias, clamp=clamp)
    out = torch.full((T,), float("nan"))
    assert sequence.out_length(T) == T
    pool.run(sequence, T, out=out, threads=threads)
    return out


def assert_as_exact_as(ours, eager, exact, ulp=4, scale=0.0):
    """Error against float64 at most twice eager's, plus a few ulp of full scale.

    scale: largest sum of absolute terms, where the terms of a sum may cancel.
    """
    scale = max(scale, exact.abs().max().item())
    for measure in (lambda e: e.abs().max().item(), lambda e: e.square().mean().sqrt().item()):
        allowed = 2 * measure(eager.double() - exact) + ulp * 2**-24 * scale
        assert measure(ours.double() - exact) <= allowed
