"""What a vocoder is lowered to, from its description alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from planning import EveryKernel, NoFusion, program, vocoder
from reference import CONFIGS, configs

from vocoder_kernels.backends.cuda.choose import Choice
from vocoder_kernels.backends.cuda.steps import INPUT, OUTPUT, RANGES, SOURCE

NODES = {"v2": 24, "v2pro": 24, "v2proplus": 26, "v4": 24, "v3": 53}


@pytest.mark.parametrize("version", NODES)
def test_graph_nodes(version):
    assert len(program(vocoder(version)).launches) == NODES[version]


@pytest.mark.parametrize("version, nodes", {"v2": 37, "v4": 37, "v3": 81}.items())
def test_graph_nodes_without_fused_kernels(version, nodes):
    assert len(program(vocoder(version), choose=NoFusion()).launches) == nodes


def test_streams_of_wide_stages():
    """With LeakyReLU they are the activated tensors; the last convolution writes the mean, which
    the next upsampling takes as it is. Snakes read float32 streams."""
    v4 = program(vocoder("v4"))
    wide = [s for s in v4.launches if s.label.startswith(("stage0", "stage1"))]
    streams = [v4.buffers[name].dtype for s in wide for name in s.writes]
    assert streams == [torch.float16] * len(streams)
    assert [s.desc.desc.inputs for s in v4.launches if s.op == "upsample"] == [0, 0, 0, 3, 3]
    last = [s.desc.desc for s in program(vocoder("v3")).launches if s.label == "stage0.unit2.conv1"]
    assert last[0].mean and last[0].residual_dtype == torch.float32 and not last[0].stream


def test_float32_is_not_fused():
    steps = program(vocoder("v4"), torch.float32).launches
    assert not {"residual_unit", "residual_branch"} & {step.op for step in steps}


def test_wide_and_narrow_stages():
    """v4: two grouped convolutions per unit at 256 and 128 channels, one launch per unit at 64, one
    for the whole stage below."""
    counts = Counter(step.op for step in program(vocoder("v4")).launches)
    assert counts == {
        "head": 1, "upsample": 5, "residual_conv": 12, "residual_unit": 3, "residual_branch": 2,
        "tail": 1,
    }  # fmt: skip


def test_notes_tell_what_was_not_fused():
    notes = program(vocoder("v4")).notes
    assert [note.split()[0] for note in notes] == ["stage0", "stage1"]
    assert "no fused kernel for 256 channels" in notes[0]


def test_longest_branch_first():
    for step in program(vocoder("v4")).launches:
        if step.op in ("residual_conv", "residual_unit", "residual_branch"):
            assert step.desc.desc.K == (11, 7, 3)


def check_dataflow(found, unread=frozenset()):
    """Every buffer is written before it is read, and nothing but ``unread`` for nobody."""
    written, read = {SOURCE}, set()
    for step in found.steps:
        assert set(step.reads) <= written, f"{step.label} reads what nobody wrote"
        written |= set(step.writes)
        read |= set(step.reads)
    assert written - read == unread
    assert set(found.buffers) == written - {SOURCE}


def check_sizes(found):
    """Buffers have the shapes and dtypes that the descriptions of their writers and readers say."""
    for step in found.launches:
        desc, tensors = step.desc.desc, dict(step.desc.tensors)
        for argument, names in tensors.items():
            for name in [names] if isinstance(names, str) else names or ():
                if name in (INPUT, RANGES, SOURCE, OUTPUT):
                    continue
                buffer = found.buffers[name]
                channels = buffer.dims[-1]
                if argument == "cond" and desc.C_cond:
                    assert (channels, buffer.dtype) == (desc.C_cond, desc.dtype)
                    continue
                reads = argument in ("inputs", "x")
                sizes = {"C_in", "C"} if reads else {"C_out", "C"}
                assert channels in {getattr(desc, s) for s in sizes if hasattr(desc, s)}
                if argument in ("streams", "stream", "cond"):
                    assert buffer.dtype == torch.float32
                if argument == "residuals":
                    assert buffer.dtype == desc.residual_dtype
                if argument == "activated" or (step.op == "residual_conv" and reads):
                    assert buffer.dtype == desc.dtype


@pytest.mark.parametrize("choose", (EveryKernel(), NoFusion()), ids=("fused", "unfused"))
@pytest.mark.parametrize("version", NODES)
def test_dataflow_of_the_models(version, choose):
    found = program(vocoder(version), choose=choose)
    check_dataflow(found)
    check_sizes(found)


@settings(max_examples=30)
@given(config=configs())
def test_dataflow_of_any_vocoder(config):
    for choose in (EveryKernel(), NoFusion()):
        found = program(vocoder(config), choose=choose)
        check_dataflow(found)
        check_sizes(found)


def test_scales_chain_through_odd_upsampling():
    v = vocoder(CONFIGS["hifigan-odd-upsampling"])
    ups = [s.desc.desc for s in program(v).launches if s.op == "upsample"]
    for before, after in zip(ups, ups[1:]):
        assert (before.scale_out, before.extra_out) == (after.scale, after.extra)
    tail = program(v).launches[-1].desc.desc
    assert (tail.scale, tail.extra) == (v.scales[-1].scale, v.scales[-1].extra)


def test_branches_of_different_depth():
    """A branch that ends early keeps its stream for the mean; the launch that ends it activates
    its result like the others' and writes their streams like its own."""
    v = vocoder(CONFIGS["hifigan-plain"])
    stage = v.stages[0]
    short = replace(stage, branches=(stage.branches[0][:1], *stage.branches[1:]))
    found = program(replace(v, stages=(short, *v.stages[1:])), choose=NoFusion())
    unread = {"stage0.unit0.activated.0", "stage0.unit0.stream.1", "stage0.unit0.stream.2"}
    check_dataflow(found, unread)
    groups = [len(s.desc.desc.K) for s in found.launches if s.label.startswith("stage0.unit")]
    assert groups == [3, 3, 2, 2, 2, 2]


class CudaCore(NoFusion):
    """The CUDA core wherever it can, as on Turing; its head multiplies no condition."""

    def find(self, op, desc):
        if op == "head":
            return Choice(op, "triton" if desc.C_cond else "cuda"), ""
        return super().find(op, desc)


def test_without_the_condition():
    v = vocoder("v2")
    with_g, without = program(v), program(v, conditioned=False)
    assert len(with_g.launches) == len(without.launches)
    assert "condition" in with_g.buffers and "condition" not in without.buffers
    heads = [found.launches[0].desc for found in (with_g, without)]
    assert [(head.desc.cond, head.desc.C_cond) for head in heads] == [
        (True, v.cond.C_in),
        (False, 0),
    ]
    # Programs share the packed weights of a label.
    assert heads[0].layers == heads[1].layers == (v.head, v.cond)


def test_a_head_that_multiplies_no_condition_gets_it_ready():
    v = vocoder("v2")
    with_g, without = (program(v, choose=CudaCore(), conditioned=g) for g in (True, False))
    assert len(with_g.launches) == len(without.launches) + 1
    check_dataflow(with_g)
    check_sizes(with_g)
    condition, head = with_g.launches[:2]
    assert (condition.op, condition.label) == ("residual_conv", "cond")
    assert head.desc.choice.name == "cuda" and not head.desc.desc.C_cond
    assert head.desc.layers == (v.head,) and head.desc.desc.cond
