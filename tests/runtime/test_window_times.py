"""Time per window: which runs are measured, what is remembered, what a report shows."""

from __future__ import annotations

import pytest
import torch
from reference import CONFIGS
from runtime.conftest import Case

from vocoder_kernels import patch, report
from vocoder_kernels.backends.cuda.clock import Clock, measured
from vocoder_kernels.runtime.window_times import KEPT, HostClock, WindowTime


class Device:
    """What timing events need of a device: work is a number of microseconds."""

    def __init__(self):
        self.now_us = 0.0
        self.finished_us = float("inf")
        self.created = 0

    def work(self, us):
        self.now_us += us

    def event(self, enable_timing):
        assert enable_timing
        self.created += 1
        return Event(self)


class Event:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.at_us = self.device.now_us

    def query(self):
        return self.at_us <= self.device.finished_us

    def elapsed_time(self, other):
        assert self.query() and other.query(), "read before it was over"
        return (other.at_us - self.at_us) / 1e3


@pytest.fixture
def device(monkeypatch):
    found = Device()
    monkeypatch.setattr(torch.cuda, "Event", found.event)
    return found


def run(clock, device, times):
    for us in times:
        clock.run(lambda us=us: device.work(us))


def test_which_runs_are_measured():
    runs = [run for run in range(1, 300) if measured(run)]
    assert runs == [2, 4, 8, 16, 32, 64, 128, 192, 256]


def test_measured_runs_oldest_first(device):
    clock = Clock()
    run(clock, device, range(1, 41))
    assert clock.runs == 40
    assert clock.times_us() == pytest.approx([2, 4, 8, 16, 32])


def test_the_newest_are_remembered_and_no_event_is_made(device):
    clock = Clock()
    created = device.created
    run(clock, device, range(1, 1025))
    assert device.created == created == 2 * KEPT
    assert clock.times_us() == pytest.approx([64 * n for n in range(9, 17)])


def test_runs_under_way_are_neither_read_nor_waited_for(device):
    clock = Clock()
    device.finished_us = sum(range(1, 5))
    run(clock, device, range(1, 61))
    assert clock.times_us() == pytest.approx([2, 4])


def test_events_under_way_are_not_used_again(device):
    """A device far behind: the runs that were measured first are those that stay."""
    clock = Clock()
    device.finished_us = 0
    run(clock, device, range(1, 1025))
    assert clock.runs == 1024 and clock.times_us() == []
    device.finished_us = float("inf")
    assert clock.times_us() == pytest.approx([2, 4, 8, 16, 32, 64, 128, 192])


def test_a_run_that_fails_leaves_no_time(device):
    clock = Clock()

    def fail():
        raise MemoryError

    for _ in range(600):
        with pytest.raises(MemoryError):
            clock.run(fail)
    assert clock.times_us() == []
    run(clock, device, [3.0] * 64)
    assert clock.times_us() == pytest.approx([3.0])


def test_a_device_that_has_failed_can_still_be_reported(device, monkeypatch):
    clock = Clock()
    run(clock, device, [1.0] * 4)

    def failed(event):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(Event, "query", failed)
    assert clock.times_us() == [] and clock.runs == 4


def test_sizes_of_the_host_clock():
    clock = HostClock(100)
    for frames in (1, 32, 33, 64, 65, 100):
        clock.add(frames, frames * 1e-6)
    assert clock.window_times() == (
        WindowTime(32, 1, 2, pytest.approx(32), pytest.approx(16.5)),
        WindowTime(64, 1, 2, pytest.approx(64), pytest.approx(48.5)),
        WindowTime(100, 1, 2, pytest.approx(100), pytest.approx(82.5)),
    )


def test_the_host_clock_remembers_the_newest():
    clock = HostClock(100)
    for n in range(1, 21):
        clock.add(5, n * 1e-6)
    (time,) = clock.window_times()
    assert time.runs == 20
    assert time.last_us == pytest.approx(20) and time.median_us == pytest.approx(16.5)


@pytest.mark.usefixtures("needs_native")
def test_the_cpu_engine_times_every_window():
    case = Case(CONFIGS["hifigan"], chunk_frames=20)
    x, g = case.inputs(70, batch=2)
    case.engine(x, g, [70, 1])
    times = case.engine.window_times()
    assert sum(t.runs for t in times) == case.engine.statistics()["windows"] == 5
    assert [t.frames for t in times] == sorted({t.frames for t in times})
    assert all(t.batch == 1 and 0 < t.median_us < 1e8 and 0 < t.last_us < 1e8 for t in times)


@pytest.mark.usefixtures("needs_native")
def test_the_report_shows_them():
    case = Case(CONFIGS["hifigan"], chunk_frames=20)
    assert patch(case.model, verify=False) and "median us" not in str(report(case.model))
    with torch.no_grad():
        case.model(*case.inputs(6))
    outcome = report(case.model)
    (time,) = outcome.modules[0].windows
    assert (time.frames, time.batch, time.runs) == (32, 1, 1)
    cells = str(outcome).splitlines()[-1].split()
    assert cells == ["(model)", "1", "32", "1", f"{time.last_us:.0f}", f"{time.median_us:.0f}"]


def test_the_report_says_what_was_not_measured(device):
    from vocoder_kernels.patching.reports import ModuleReport, PatchReport

    windows = (WindowTime(64, 2, 0), WindowTime(128, 4, 1, program="tf32 conditioned"))
    text = str(
        PatchReport((ModuleReport("dec", "Generator", "hifigan", "patched", windows=windows),))
    )
    assert text.count("not measured") == 2 and " 64 " not in text
    assert text.splitlines()[-1].endswith("tf32 conditioned")
