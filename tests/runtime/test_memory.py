"""The static memory plan: no overlap, no less than what lives at once, the same every time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reference import CONFIGS, build, configs

from vocoder_kernels.backends.cpu.lower import lower
from vocoder_kernels.backends.cpu.plan import plan
from vocoder_kernels.families import describe
from vocoder_kernels.runtime.memory import ALIGNMENT_BYTES, Placement, PoolPlan, Step, plan_pool

NAMES = [f"b{i}" for i in range(12)]


@st.composite
def programs(draw):
    names = st.lists(st.sampled_from([*NAMES, "external"]), max_size=4).map(tuple)
    steps = draw(st.lists(st.tuples(names, names, names), min_size=1, max_size=10))
    sizes = {name: draw(st.integers(1, 5000)) for name in NAMES}
    return [Step("op", str(i), *s) for i, s in enumerate(steps)], sizes


def lives(steps, sizes) -> dict[str, list[int]]:
    used: dict[str, list[int]] = {}
    for i, step in enumerate(steps):
        for name in {*step.reads, *step.writes, *step.scratch} & set(sizes):
            used.setdefault(name, []).append(i)
    return used


@given(programs(), st.sampled_from([1, 64, ALIGNMENT_BYTES]))
def test_live_buffers_never_share_a_byte(program, alignment):
    steps, sizes = program
    pool = plan_pool(steps, sizes, alignment)
    used, placed = lives(steps, sizes), {p.name: p for p in pool.placements}
    assert set(placed) == set(used)
    for name, p in placed.items():
        assert (p.first, p.last) == (used[name][0], used[name][-1])
        assert p.offset % alignment == 0 and p.size >= sizes[name]
        assert 0 <= p.offset and p.offset + p.size <= pool.pool_bytes
    for i in range(len(steps)):  # byte by byte, without the planner's own notion of overlap
        live = sorted(
            (p for p in placed.values() if p.first <= i <= p.last), key=lambda p: p.offset
        )
        for below, above in zip(live, live[1:]):
            assert below.offset + below.size <= above.offset
    assert pool.live_bytes <= pool.pool_bytes <= sum(p.size for p in placed.values())


@given(programs())
def test_the_plan_is_the_same_every_time(program):
    steps, sizes = program
    again = dict(reversed(sizes.items()))
    assert plan_pool(steps, sizes) == plan_pool(steps, again)


def test_an_overlap_is_an_error():
    a, b = Placement("a", 0, 10, 0, 2), Placement("b", 9, 10, 2, 3)
    with pytest.raises(RuntimeError, match="live buffers a and b overlap"):
        PoolPlan((a, b), 19).check()
    PoolPlan((a, Placement("b", 9, 10, 3, 3)), 19).check()
    PoolPlan((a, Placement("b", 10, 10, 2, 3)), 20).check()


def test_a_plan_prints():
    pool = plan_pool(
        [Step("op", "x", (), ("a",)), Step("op", "y", ("a",), ("b",))], {"a": 5, "b": 7}
    )
    assert str(pool).splitlines()[0] == "pool of 512 bytes, 512 live at most"
    assert "a " in str(pool) and "steps   0-1" in str(pool)


def test_nothing_to_place():
    assert plan_pool([], {}).pool_bytes == 0 == plan_pool([], {}).live_bytes


@given(configs(), st.integers(1, 700), st.sampled_from([8, 16]))
def test_pools_of_vocoders(config, frames, width):
    """Every buffer has room for its channels and rows; what a step reads and writes is there."""
    program = lower(describe(build(config)))
    where = plan(program, frames, width)
    where.pool.check()
    for i, buffer in enumerate(program.buffers):
        rows = program.vocoder.scales[buffer.scale].length(frames)
        blocks = -(-buffer.channels // width)
        assert where.t_strides[i] >= rows
        size = next(p.size for p in where.pool.placements if p.name == buffer.name)
        assert size >= blocks * where.t_strides[i] * width * 4
        assert where.offsets_bytes[i] == where.pool.offsets[buffer.name]


@pytest.mark.parametrize("name", CONFIGS)
def test_windows_fit_and_grow_linearly(name):
    program = lower(describe(build(CONFIGS[name])))
    small, large = (plan(program, frames, 8).pool_bytes for frames in (200, 2000))
    assert 8 * small < large < 10.5 * small
    assert "GFLOP" in str(plan(program, 20, 8))


@pytest.mark.parametrize("name", CONFIGS)
def test_convolutions_are_counted_once(name):
    vocoder = describe(build(CONFIGS[name]))
    steps = plan(lower(vocoder), 37, 8).steps
    assert sum(s.flops for s in steps if s.op != "snake") == vocoder.flops(37)
