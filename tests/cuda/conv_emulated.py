"""Launches of the tensor-core convolution on the emulator and what their outputs must be."""

from __future__ import annotations

import ctypes

import torch
from emulation import C_NAMES, kernels

ARCHITECTURES = (75, 80, 86, 89, 90)
SHAPES = {  # ConvShape arguments of each tile, as compiled
    "ActivatedSource": ((64, 128, 4, 3), (64, 64, 4, 6), (32, 64, 8, 6)),
    "MeanSource": ((64, 128, 4, 3), (32, 64, 4, 6)),
    "StridedSource": ((64, 64, 2, 6), (32, 64, 2, 8)),
}
FILES = {torch.float16: "conv_fp16.cu", torch.bfloat16: "conv_bf16.cu"}
# Rounding of the inputs is shared with the reference; what is left is that of the outputs.
TOLERANCE = {torch.float32: 3e-6, torch.float16: 6e-4, torch.bfloat16: 5e-3}


class Branch(ctypes.Structure):
    _fields_ = [
        *((n, ctypes.c_void_p) for n in ("x", "weight", "bias", "residual", "stream", "activated")),
        *((n, ctypes.c_int) for n in ("K", "dilation", "first_tap")),
    ]


class Params(ctypes.Structure):
    _fields_ = [
        ("branches", Branch * 4),
        ("means", ctypes.c_void_p * 4),
        *((n, ctypes.c_int64) for n in ("stride_b", "stride_c", "stride_t")),
        ("x_dtype", ctypes.c_int),
        ("source", ctypes.c_void_p),
        ("inputs", ctypes.c_int),
        ("slope_in", ctypes.c_float),
        ("cond", ctypes.c_void_p),
        ("cond_stride", ctypes.c_int64),
        ("slope_out", ctypes.c_float),
        ("undo", ctypes.c_float),
        ("ranges", ctypes.c_void_p),
        *((n, ctypes.c_int) for n in ("scale_in", "extra_in", "scale_out", "extra_out")),
        *(
            (n, ctypes.c_int)
            for n in ("T_in_cap", "T_out_cap", "C_in", "C_out", "stride", "padding")
        ),
    ]


def launch(arch, source, dtype, tile, params, branches, B, buffers, check=True, summed=False):
    shape = SHAPES[source][tile]
    rows, columns = shape[:2]
    reach = max((b.K - 1) * b.dilation for b in params.branches[:branches])
    T, numbers = C_NAMES[dtype], ", ".join(map(str, shape))
    name = f"conv_kernel<ConvShape<{T}, {numbers}>, {source}<{T}>, {str(summed).lower()}>"
    N = params.stride * params.C_out
    m_cap = params.T_out_cap // params.stride + (0 if params.stride == 1 else 2)
    return (
        kernels(FILES[dtype], arch)
        .launch(
            name,
            (-(-m_cap // rows), -(-N // columns), B if summed else branches * B),
            columns,
            [params, B],
            shared=2 * 64 * (rows + reach),
            buffers=buffers,
            seed=1 if check else None,
            check=check,
        )
        .stats
    )


def windows(lengths, scale, extra):
    """Ranges with different starts, and a window that has rows to spare behind the last."""
    starts = [b % 3 for b in range(len(lengths))]
    ranges = [(s, s + n) for s, n in zip(starts, lengths)]
    return starts, ranges, max(e for _, e in ranges) * scale + max(extra, 0) + 7


def expect(buffer, wants, firsts, dtype):
    for b, (want, first) in enumerate(zip(wants, firsts)):
        got = buffer[b, first : first + want.shape[0]].double()
        if want.numel():
            assert (got - want).abs().max() <= TOLERANCE[dtype] * want.abs().max()
        assert buffer[b, :first].isnan().all() and buffer[b, first + want.shape[0] :].isnan().all()
