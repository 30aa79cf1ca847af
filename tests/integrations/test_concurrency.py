"""Many threads on one vocoder: the same bits, bounded memory, nothing left behind."""

from __future__ import annotations

import gc
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch_backend
from reference import CONFIGS, build, inputs

from vocoder_kernels import compile, patch, report
from vocoder_kernels.runtime import batcher as batcher_module
from vocoder_kernels.runtime.batcher import Batcher

THREADS = 8
JOINING = {
    "alone": {},
    "joined": {"join_requests": 8},
    "waiting": {"join_requests": 4, "join_wait_ms": 2},
}


def requests(count: int, config: str = "hifigan"):
    """Inputs of 1 to 60 frames, some of two rows, with or without condition."""
    made = []
    for seed in range(count):
        rows = 2 if seed % 5 == 0 else 1
        x, g = inputs(CONFIGS[config], 1 + seed * 7 % 60, rows, seed)
        made.append((x,) if g is None else (x, g if seed % 3 else g[:1]))
    return made


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def native_threads() -> int:
    return len(os.listdir("/proc/self/task"))


def settled(count, most: int) -> bool:
    """Whether ``count()`` falls to ``most``: a joined thread is gone from /proc a moment later."""
    deadline = time.monotonic() + 5
    while count() > most and time.monotonic() < deadline:
        time.sleep(0.01)
    return count() <= most


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads memory from /proc")
@pytest.mark.parametrize("joining", JOINING)
def test_a_thousand_requests_from_eight_threads(joining):
    model = build(CONFIGS["hifigan"], norm="old")
    assert patch(model, chunk_frames=25, threads=1, **JOINING[joining])
    made = requests(50)

    def call(i):
        with torch.no_grad() if i % 2 else torch.inference_mode():
            return model(*made[i % len(made)])

    want = [call(i) for i in range(len(made))]
    accelerated = report(model).modules[0].statistics["accelerated"]
    threads, files = native_threads(), open_files()
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(call, range(10)))
        gc.collect()
        before = peak = resident_bytes()
        for i, got in enumerate(pool.map(call, range(1000))):
            assert torch.equal(got, want[i % len(made)]), i
            assert not got.is_inference() and got._base is None
            peak = max(peak, resident_bytes())
    print(f"{(peak - before) / 2**20:.1f} MiB more than after ten requests")
    assert peak - before < 64 * 2**20
    assert settled(native_threads, threads) and open_files() <= files
    counted = report(model).modules[0].statistics
    assert counted["accelerated"] == accelerated + 1010 and not counted.get("failures")
    assert counted.get("joined", 0) > 0 or joining == "alone"


@pytest.fixture
def engine():
    return compile(build(CONFIGS["hifigan"]), threads=1)


class Gate:
    """Holds an engine's runs until it is opened; counts their requests."""

    def __init__(self, engine):
        self.opened, self.running = threading.Event(), threading.Event()
        self.batches: list[list[int]] = []
        run = engine.executable.run

        def held(x, g, lengths, out):
            self.batches.append(list(lengths))
            self.running.set()
            assert self.opened.wait(20)
            return run(x, g, lengths, out)

        engine.executable.run = held


def calling(batcher, request, results, i):
    def call():
        try:
            results[i] = batcher(*request)
        except Exception as error:
            results[i] = error

    thread = threading.Thread(target=call)
    thread.start()
    return thread


def queued(batcher, count):
    for _ in range(2000):
        if len(batcher._waiting) >= count:
            return
        time.sleep(0.005)
    raise AssertionError(f"{len(batcher._waiting)} requests wait, not {count}")


def test_what_waits_is_joined_in_order(engine):
    made = [inputs(CONFIGS["hifigan"], 3 + i, 1, i) for i in range(8)]
    want = [engine(*m) for m in made]
    gate, batcher, results = Gate(engine), Batcher(engine, 3), {}
    threads = [calling(batcher, made[0], results, 0)]
    assert gate.running.wait(20)
    for i in range(1, 8):
        threads.append(calling(batcher, made[i], results, i))
        queued(batcher, i)
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert gate.batches == [[3], [4, 5, 6], [7, 8, 9], [10]]
    assert batcher.statistics() == {"batches": 4, "joined": 6}
    assert all(torch.equal(results[i], want[i]) for i in range(8))
    kept = results[1].clone()
    results[2].fill_(9)
    assert torch.equal(results[1], kept)


class RecordedStream:
    """A stream that writes down what it waits for."""

    def __init__(self, name, order):
        self.name, self.order = name, order

    def wait_stream(self, other):
        self.order.append(f"{self.name} waits for {other.name}")


@pytest.mark.parametrize("fails", (False, True))
def test_the_leaders_stream_is_ordered_with_the_others(engine, monkeypatch, fails):
    """The input's producers run before it, the audio's readers after; the memory lives as long."""
    order, local, kept = [], threading.local(), []
    monkeypatch.setattr(batcher_module, "_current_stream", lambda device: local.stream)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda audio, s: kept.append(s.name))
    gate, batcher, results = Gate(engine), Batcher(engine, 3), {}
    held = engine.executable.run

    def run(x, g, lengths, out):
        order.append(f"run {len(lengths)}")
        held(x, g, lengths, out)
        if fails:
            raise MemoryError

    engine.executable.run = run

    def call(i, stream):
        local.stream = stream
        try:
            results[i] = batcher(*inputs(CONFIGS["hifigan"], 3, 1, i))
        except MemoryError:
            results[i] = None

    streams = [RecordedStream(name, order) for name in "abc"]
    threads = []
    for i, stream in enumerate((streams[0], streams[1], streams[1], streams[2])):
        threads.append(threading.Thread(target=call, args=(i, stream)))
        threads[-1].start()
        assert gate.running.wait(20)
        queued(batcher, i)
    gate.opened.set()
    for thread in threads:
        thread.join()
    ran = ["run 3", "run 1", "run 1", "run 1"] if fails else ["run 3"]
    assert order == ["run 1", "b waits for c", *ran, "c waits for b"]
    assert kept == ([] if fails else ["b", "b", "c"])
    assert len(results) == 4


def test_a_lone_request_waits_no_longer_than_asked(engine):
    x, g = inputs(CONFIGS["hifigan"], 5)
    for wait_s, least_s in ((0.0, 0.0), (0.2, 0.2)):
        batcher = Batcher(engine, 4, wait_s)
        start = time.monotonic()
        batcher(x, g)
        taken = time.monotonic() - start
        assert least_s <= taken < least_s + 2


def test_company_ends_the_waiting(engine):
    batcher, results = Batcher(engine, 2, wait_s=30), {}
    x, g = inputs(CONFIGS["hifigan"], 5)
    start = time.monotonic()
    threads = [calling(batcher, (x, g), results, i) for i in range(2)]
    for thread in threads:
        thread.join()
    assert time.monotonic() - start < 15 and batcher.statistics()["joined"] == 2


def test_an_error_goes_to_whom_it_belongs():
    with torch_backend.installed(torch_backend.TorchBackend()):
        engine = compile(build(CONFIGS["hifigan"]))
    gate, batcher, results = Gate(engine), Batcher(engine, 8), {}
    run = engine.executable.run

    def fails_at_seven_frames(x, g, lengths, out):
        if 7 in lengths:
            raise MemoryError("seven")
        return run(x, g, lengths, out)

    engine.executable.run = fails_at_seven_frames
    made = [inputs(CONFIGS["hifigan"], 4 + i, 1, i) for i in range(5)]
    threads = [calling(batcher, made[0], results, 0)]
    assert gate.running.wait(20)
    for i in range(1, 5):
        threads.append(calling(batcher, made[i], results, i))
    queued(batcher, 4)
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert isinstance(results[3], MemoryError) and str(results[3]) == "seven"
    for i in (0, 1, 2, 4):
        assert torch.equal(results[i], engine(*made[i]))
    with pytest.raises(ValueError, match="expected"):
        batcher(torch.zeros(1, 3, 5))
    assert torch.equal(batcher(*made[0]), results[0])


def test_with_and_without_condition_are_not_mixed(engine):
    x, g = inputs(CONFIGS["hifigan"], 6)
    want = [engine(x, g), engine(x)]
    gate, batcher, results = Gate(engine), Batcher(engine, 8), {}
    threads = [calling(batcher, (x, g), results, 0)]
    assert gate.running.wait(20)
    threads += [calling(batcher, r, results, 1 + i) for i, r in enumerate([(x, g), (x,)])]
    queued(batcher, 2)
    gate.opened.set()
    for thread in threads:
        thread.join()
    assert torch.equal(results[1], want[0]) and torch.equal(results[2], want[1])


def test_one_that_is_interrupted_while_it_waits_leaves_the_others(engine, monkeypatch):
    x, g = inputs(CONFIGS["hifigan"], 6)
    gate, batcher, results = Gate(engine), Batcher(engine, 1), {}
    threads = [calling(batcher, (x, g), results, 0)]
    assert gate.running.wait(20)
    wait = batcher._changed.wait

    def interrupted(timeout=None):
        monkeypatch.setattr(batcher._changed, "wait", wait)
        raise KeyboardInterrupt

    monkeypatch.setattr(batcher._changed, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        batcher(x, g)
    threads.append(calling(batcher, (x, g), results, 1))
    gate.opened.set()
    for thread in threads:
        thread.join(20)
    assert torch.equal(results[0], results[1])


def test_weights_change_while_requests_wait():
    """Every answer belongs to the weights of before or of after, never to a mixture."""
    model = build(CONFIGS["hifigan"])
    patch(model, threads=1, join_requests=4)
    x, g = inputs(CONFIGS["hifigan"], 20)
    states = [build(CONFIGS["hifigan"], seed=s).state_dict() for s in (0, 1)]
    want = []
    for state in states:
        model.load_state_dict(state)
        with torch.no_grad():
            want.append(model(x, g))
    wrong = []

    def client():
        for _ in range(60):
            with torch.no_grad():
                got = model(x, g)
            if not any(torch.equal(got, w) for w in want):
                wrong.append(got)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    patched_again = 0
    while any(thread.is_alive() for thread in threads):
        patch(model, threads=1, join_requests=4 + patched_again % 2)
        patched_again += 1
    assert not wrong and patched_again
    assert not report(model).modules[0].statistics.get("failures")


def test_options_are_checked(engine):
    with pytest.raises(ValueError, match="at least 1 request"):
        Batcher(engine, 0)
    with pytest.raises(ValueError, match="join_requests"):
        patch(build(CONFIGS["hifigan"]), join_requests=0)
