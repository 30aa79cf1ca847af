"""Whatever fails in ours: the original forward answers, one warning tells, strict raises."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch
from reference import CONFIGS, build
from torch_backend import TorchBackend, TorchExecutable, installed

from vocoder_kernels import patch, report, unpatch
from vocoder_kernels.patching.binding import MOST_FAILURES


class Flaky(TorchBackend):
    """Raises ``compile_error`` or ``run_error`` while they are set."""

    compile_error: Exception | None = None
    run_error: Exception | None = None

    def compile(self, vocoder, weights, device, dtype, options):
        if self.compile_error is not None:
            raise self.compile_error
        executable = super().compile(vocoder, weights, device, dtype, options)
        executable.run = lambda *a: self._run(executable, *a)
        return executable

    def _run(self, executable, *arguments):
        if self.run_error is not None:
            raise self.run_error
        TorchExecutable.run(executable, *arguments)


@pytest.fixture
def flaky():
    with installed(Flaky()) as backend:
        yield backend


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = call()
    return result, [str(w.message) for w in caught if "vocoder_kernels" in str(w.message)]


ERRORS = [RuntimeError("no kernel image"), MemoryError("host"), torch.cuda.OutOfMemoryError("gpu")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_a_failing_run_is_answered_by_the_original(hifigan, flaky, error):
    patch(hifigan.model)
    flaky.run_error = error
    audio, messages = warned(hifigan)
    assert torch.equal(audio, hifigan.original())
    assert len(messages) == 1 and f"{type(error).__name__}: {error}" in messages[0]
    assert "runs its original forward" in messages[0]
    _, messages = warned(hifigan)
    assert not messages
    assert hifigan.state.status == "fell back" and str(error) in hifigan.state.why
    assert hifigan.state.statistics["failures"] == 2


def test_it_recovers(hifigan, flaky):
    patch(hifigan.model)
    flaky.run_error = RuntimeError("passing")
    warned(hifigan)
    flaky.run_error = None
    hifigan.assert_ours()
    assert hifigan.state.status == "patched" and not hifigan.state.why
    for _ in range(MOST_FAILURES):
        flaky.run_error = RuntimeError("again")
        warned(hifigan)
        flaky.run_error = None
        hifigan.assert_ours()


def test_out_of_memory_gives_ours_back(hifigan, flaky):
    """The original forward needs the memory that the engine holds."""
    patch(hifigan.model)
    engine = flaky.compiled[-1]
    flaky.run_error = torch.cuda.OutOfMemoryError("gpu")
    warned(hifigan)
    assert engine.released
    flaky.run_error = None
    hifigan.assert_ours()
    assert hifigan.state.statistics["builds"] == 2


def test_it_gives_up_until_patched_again(hifigan, flaky):
    patch(hifigan.model)
    flaky.run_error = RuntimeError("broken")
    for _ in range(MOST_FAILURES):
        warned(hifigan)
    flaky.run_error = None
    compiled = len(flaky.compiled)
    hifigan.assert_original(
        f"gave up after {MOST_FAILURES} failures in a row: RuntimeError: broken"
    )
    assert len(flaky.compiled) == compiled and flaky.compiled[-1].released
    assert patch(hifigan.model)
    hifigan.assert_ours()


def test_a_failing_build(hifigan, flaky):
    flaky.compile_error = RuntimeError("no compiler")
    outcome, messages = warned(lambda: patch(hifigan.model))
    assert not outcome and "no compiler" in outcome.modules[0].why and len(messages) == 1
    flaky.compile_error = None
    hifigan.assert_ours()


def test_a_failing_update_leaves_no_old_weights_in_use(hifigan, flaky):
    patch(hifigan.model)
    flaky.compiled[-1].update = _raise
    with torch.no_grad():
        hifigan.model.conv_post.weight.mul_(0.5)
    audio, _ = warned(hifigan)
    assert torch.equal(audio, hifigan.original())
    audio, _ = warned(hifigan)
    assert torch.equal(audio, hifigan.original())


def _raise(*arguments):
    raise RuntimeError("update")


def test_strict_raises_instead(hifigan, flaky):
    patch(hifigan.model, strict=True)
    flaky.run_error = RuntimeError("no kernel image")
    with pytest.raises(RuntimeError, match="no kernel image"):
        hifigan()
    flaky.run_error = None
    hifigan.assert_ours()
    flaky.compile_error = RuntimeError("no compiler")
    other = build(CONFIGS["hifigan"])
    with pytest.raises(RuntimeError, match="no compiler"):
        patch(other, strict=True)
    assert "forward" not in vars(other)


def test_strict_still_runs_the_original_where_it_must(hifigan, fake_backend):
    """Training is no failure."""
    patch(hifigan.model, strict=True)
    hifigan.model.train()
    hifigan.assert_original("training mode")


def test_strict_raises_for_a_dtype_without_kernels(hifigan):
    with installed(TorchBackend(dtypes=(torch.float32,))):
        patch(hifigan.model, strict=True)
        hifigan.model.half()
        with pytest.raises(NotImplementedError, match="does not run torch.float16"):
            hifigan(hifigan.x.half(), hifigan.g.half())


def test_warnings_as_errors_lose_no_request(hifigan, flaky):
    """A filter may turn our warning into an exception: then it is that exception, and no lock stays
    held behind it."""
    patch(hifigan.model)
    flaky.run_error = RuntimeError("broken")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(RuntimeWarning, match="broken"):
            hifigan()
    flaky.run_error = None
    hifigan.assert_ours()


def test_bad_inputs_are_not_failures_of_ours(hifigan, flaky):
    patch(hifigan.model)
    for _ in range(MOST_FAILURES + 1):
        with pytest.raises(ValueError, match="expected"):
            hifigan(hifigan.x[:, :3], hifigan.g)
    assert not hifigan.state.statistics.get("failures")
    hifigan.assert_ours()


def test_interrupts_pass_through(hifigan, flaky):
    patch(hifigan.model)
    flaky.run_error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        hifigan()
    flaky.run_error = None
    hifigan.assert_ours()


def test_unpatching_waits_for_calls_under_way(hifigan, flaky):
    """A call that began before `unpatch` ends on a live engine; one after it is the original's."""
    patch(hifigan.model)
    inside, go = threading.Event(), threading.Event()
    executable = flaky.compiled[-1]

    def slow(*arguments):
        inside.set()
        go.wait(10)
        TorchExecutable.run(executable, *arguments)

    executable.run = slow
    results = []
    call = threading.Thread(target=lambda: results.append(hifigan()))
    call.start()
    assert inside.wait(10)
    ending = threading.Thread(target=lambda: unpatch(hifigan.model))
    ending.start()
    go.set()
    call.join(10)
    ending.join(10)
    assert executable.released and "forward" not in vars(hifigan.model)
    assert (results[0] - hifigan.original()).abs().max() < 1e-5
    assert torch.equal(hifigan(), hifigan.original())
    assert report(hifigan.model).modules[0].status == "not patched"
