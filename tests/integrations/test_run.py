"""``vocoder-kernels run``: untouched scripts as if Python ran them, with vocoders patched."""

from __future__ import annotations

import re
import urllib.error
from pathlib import Path

import numpy as np
import pytest
from integrations.processes import RUN, ours, python

PROBE = '''"""A script that says how it was run."""
import atexit, os, pickle, sys, threading
class Local: pass
pickle.loads(pickle.dumps(Local()))
print(sys.argv, sys.path[0], __name__, __file__, __doc__, __spec__, __package__)
print(sys.modules["__main__"].Local is Local, threading.current_thread().name)
atexit.register(lambda: print("at exit", Local.__name__))
def late():
    import time
    time.sleep(0.2)
    print("late", Local.__name__)
if sys.argv[1:] == ["thread"]:
    threading.Thread(target=late).start()
def fail():
    raise KeyError("missing")
{"exit": lambda: sys.exit(7), "message": lambda: sys.exit("bye"), "error": fail,
 "interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt)}.get("".join(sys.argv[1:]), int)()
'''


def without_log(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if "[vocoder_kernels]" not in line)


@pytest.mark.parametrize(
    "how", ["", "exit", "message", "error", "interrupt", "thread", "-h --config"]
)
def test_as_if_python_ran_it(tmp_path, how):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "probe.py").write_text(PROBE)
    arguments = [Path("folder") / "probe.py", *how.split()]
    stock, got = python(arguments, tmp_path), ours(arguments, tmp_path)
    if how == "interrupt":  # Python ends itself by the signal, whose number a shell adds to 128
        assert stock[0] in (-2, 130) and got[0] == 130
    else:
        assert got[0] == stock[0]
    assert got[1] == stock[1]
    assert without_log(got[2]) == stock[2]
    if not how:
        assert "constructed no vocoder" in got[2]


def test_script_that_cannot_be_read(tmp_path):
    code, out, err = ours(["missing.py"], tmp_path)
    assert code == 2 and not out and "missing.py" in err and "Traceback" not in err


def test_syntax_error_reads_as_from_python(tmp_path):
    (tmp_path / "broken.py").write_text("print('never')\ndef (:\n")
    code, out, err = ours(["broken.py"], tmp_path)
    assert code == 1 and not out
    assert without_log(err) == python(["broken.py"], tmp_path)[2]


@pytest.fixture
def stock(serve):
    def stock(version):
        service = serve(version=version)
        samples = service.tts()
        service.stop()
        return samples

    return stock


def test_api_v2_through_its_life(serve, stock, installation):
    """Requests, a failed one that reloads the model, other weights, a restart."""
    want = stock("v2")
    service = serve(*RUN, vocoder_chunk_size=40)
    assert np.abs(service.tts() - want).max() <= 1
    with pytest.raises(urllib.error.HTTPError):
        service.tts(fail=True)
    assert np.abs(service.tts() - want).max() <= 1
    service.get(f"/set_sovits_weights?weights_path={installation.weights['v3']}")
    assert service.tts().size
    service.get(f"/set_sovits_weights?weights_path={installation.weights['v2']}")
    service.restart()
    assert np.abs(service.tts() - want).max() <= 1
    log = service.stop()
    assert log.count("settings from") == 2, log
    assert "chunk_frames=40" in log
    assert re.search(
        r"TTS as loaded:\n.*\n.*\nvits_model\.dec +Generator +hifigan +patched +cpu", log
    )
    assert log.count("vits_model.dec (Generator) runs on the cpu kernels") >= 3
    assert "vocoder (BigVGAN) runs on the cpu kernels for bigvgan, float32 on cpu" in log
    assert "original forward" not in log


def test_switched_off_in_the_file(serve, stock):
    service = serve(*RUN, use_vocoder_optimization=False)
    assert np.array_equal(service.tts(), stock("v2"))
    log = service.stop()
    assert "vits_model.dec (Generator) runs its original forward: disabled by option" in log
    assert "runs on the" not in log


def test_what_is_not_patched_is_said_with_the_reason(serve, installation):
    models = installation.root / "GPT_SoVITS" / "module" / "models.py"
    models.write_text(
        models.read_text().replace(
            'apply_norm_(self, "old")',
            "apply_norm_(self, 'old')\n        self.extra = nn.Linear(2, 2)",
        )
    )
    log_of = serve(*RUN)
    assert log_of.tts().size
    log = log_of.stop()
    assert "Generator is left as it is: Generator: unknown submodules extra" in log
    assert re.search(r"vits_model\.dec +Generator +hifigan +refused", log)


def test_wrong_setting_stops_before_anything_runs(installation):
    config = installation.configure(vocoder_chunk_size="many")
    code, out, err = ours(["api_v2.py", "-c", config], installation.root)
    assert code == 2 and not out
    assert f"{config}: vocoder_chunk_size: expected a whole number" in err
    code, out, err = ours(["--config", "none.yaml", "api_v2.py"], installation.root)
    assert code == 2 and "--config: no file none.yaml" in err


def test_globals_of_a_script(installation):
    """api.py and the web UI: a shared vocoder, other weights loaded later."""
    for before, name in (((), "stock.npz"), (RUN, "ours.npz")):
        code, _, err = python([*before, "api.py", name], installation.root)
        assert code == 0, err
    stock, got = (np.load(installation.root / n) for n in ("stock.npz", "ours.npz"))
    assert set(stock) == set(got) and len(set(stock)) == 6
    for name in stock:
        assert np.abs(stock[name] - got[name]).max() <= 1e-5, name
    assert err.count("Generator runs on the cpu kernels for hifigan") == 2, err
    assert err.count("runs on the cpu kernels for bigvgan") == 1, err
    assert "original forward" not in err


def test_the_configuration_beside_a_script_run_from_elsewhere(installation, tmp_path):
    installation.configure(vocoder_chunk_size=123)
    script = installation.root / "api.py"
    _, _, err = ours([script, tmp_path / "out.npz"], tmp_path)
    assert "chunk_frames=123" in err
    _, _, err = ours([script, tmp_path / "out.npz"], tmp_path, VOCODER_KERNELS_CHUNK_FRAMES="77")
    assert "chunk_frames=77" in err
