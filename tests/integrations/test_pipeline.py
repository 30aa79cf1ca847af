"""A live pipeline, through everything upstream does to its vocoders."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref

import numpy as np
import pytest
import torch
import torch_backend
import yaml

from vocoder_kernels import Options, patch, patched, report, unpatch

TEXT = {"text": "the quick brown fox jumps over the lazy dog" * 3, "text_lang": "en"}
VERSIONS = ("v2", "v3", "v4")


def speak(tts, **more):
    """16-bit samples of the whole answer."""
    return np.concatenate([samples for _, samples in tts.run({**TEXT, **more})]).astype(int)


def dec_or_vocoder(tts):
    return tts.vocoder if tts.vocoder is not None else tts.vits_model.dec


def accelerated(tts) -> float:
    return sum(m.statistics.get("accelerated", 0) for m in report(tts))


def assert_ours(tts, stock, **more):
    before = accelerated(tts)
    got = speak(tts, **more)
    assert accelerated(tts) == before + 1, str(report(tts))
    assert np.abs(got - stock).max() <= 1


def assert_original(tts, stock, **more):
    before = accelerated(tts)
    assert np.array_equal(speak(tts, **more), stock)
    assert accelerated(tts) == before


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("parallel", [True, False], ids=["no_grad", "inference_mode"])
def test_covers_whichever_vocoder_the_version_has(make_tts, version, parallel):
    tts = make_tts(version)
    stock = speak(tts, parallel_infer=parallel)
    outcome = patch(tts)
    path = {"v2": "vits_model.dec"}.get(version, "vocoder")
    assert outcome and [m.path for m in outcome] == [path], str(outcome)
    for _ in range(2):
        assert_ours(tts, stock, parallel_infer=parallel)


def test_both_modes_reach_one_vocoder(make_tts):
    """Built under one of them, used under the other, written to in place by the pipeline."""
    tts = make_tts("v3")
    stock = {parallel: speak(tts, parallel_infer=parallel) for parallel in (False, True)}
    patch(tts, verify=False)
    for parallel in (False, True, False, True):
        assert_ours(tts, stock[parallel], parallel_infer=parallel)


def test_class_names_and_keys_stay(make_tts):
    tts = make_tts("v4")
    vocoder, keys = tts.vocoder, list(tts.vocoder.state_dict())
    patch(tts)
    assert type(tts.vocoder).__name__ == "Generator" and list(tts.vocoder.state_dict()) == keys
    tts.init_vocoder("v4")
    assert tts.vocoder is vocoder


@pytest.mark.parametrize("first,second", [("v3", "v4"), ("v4", "v3"), ("v2", "v3"), ("v3", "v2")])
def test_another_version_is_loaded(make_tts, upstream, tmp_path, first, second):
    tts = make_tts(first)
    patch(tts)
    gone = weakref.ref(dec_or_vocoder(tts))
    weights = upstream.save_weights(tmp_path / "other.pth", second)
    tts.init_vits_weights(weights)
    if second != "v2":
        gc.collect()
        assert gone() is None
    want = {"v2": "vits_model.dec"}.get(second, "vocoder")
    assert want in [m.path for m in report(tts) if m.status == "patched"]
    ours = speak(tts)
    unpatch(tts)
    assert np.abs(ours - speak(tts)).max() <= 1


def test_other_weights_of_the_same_version(make_tts, upstream, tmp_path):
    """What /set_sovits_weights does."""
    tts = make_tts("v2")
    patch(tts)
    before = speak(tts)
    tts.init_vits_weights(upstream.save_weights(tmp_path / "other.pth", "v2", seed=3))
    after = speak(tts)
    assert np.abs(after - before).max() > 100
    assert report(tts)
    tts.use_vocoder_optimization = False
    assert np.abs(after - speak(tts)).max() <= 1


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_failed_request_reloads_and_is_patched_again(make_tts, version, capsys):
    tts = make_tts(version)
    stock = speak(tts)
    patch(tts)
    model = tts.vits_model
    with pytest.raises(RuntimeError, match="a request that fails"):
        speak(tts, fail=True)
    assert tts.vits_model is not model
    assert_ours(tts, stock)


def test_loader_that_fails_after_it_installed_a_module(make_tts, tmp_path, upstream):
    tts = make_tts("v2")
    patch(tts)
    tts.configs.configs_path = str(tmp_path / "missing folder" / "tts_infer.yaml")
    with pytest.raises(OSError):
        tts.init_vits_weights(upstream.save_weights(tmp_path / "other.pth", "v2", seed=1))
    assert report(tts) and report(tts).modules[0].path == "vits_model.dec"


def test_half_and_back(make_tts):
    with torch_backend.installed(torch_backend.TorchBackend()):
        tts = make_tts("v3")
        stock = speak(tts)
        patch(tts)
        tts.enable_half_precision(True)
        assert report(tts).modules[0].dtype == "float16" and report(tts)
        half = speak(tts)
        assert 1 < np.abs(half - stock).max() < 1500
        tts.enable_half_precision(False)
        unpatched = dec_or_vocoder(tts)
        ours = speak(tts)
        unpatch(tts)
        assert "forward" not in vars(unpatched)
        assert np.abs(ours - speak(tts)).max() <= 1


def test_half_where_there_are_no_half_kernels_runs_the_original(make_tts):
    with torch_backend.installed(torch_backend.TorchBackend(dtypes=(torch.float32,))):
        tts = make_tts("v4")
        patch(tts)
        tts.enable_half_precision(True)
        (state,) = report(tts).modules
        assert state.status == "fell back" and "float16" in state.why
        before = accelerated(tts)
        assert speak(tts).size and accelerated(tts) == before
        tts.enable_half_precision(False)
        assert report(tts)


def test_moved_between_devices(make_tts):
    tts = make_tts("v2")
    stock = speak(tts)
    patch(tts)
    tts.set_device(torch.device("meta"))
    assert report(tts).modules[0].status == "fell back"
    tts = make_tts("v2")
    patch(tts)
    tts.set_device(torch.device("cpu"))
    assert_ours(tts, stock)


@pytest.mark.parametrize("version", ["v2", "v3"])
def test_switch_at_run_time(make_tts, version):
    tts = make_tts(version)
    stock = speak(tts)
    patch(tts)
    assert tts.use_vocoder_optimization is True
    assert_ours(tts, stock)
    tts.use_vocoder_optimization = False
    assert_original(tts, stock)
    assert not report(tts) and report(tts).modules[0].why == "disabled by option"
    tts.use_vocoder_optimization = True
    assert_ours(tts, stock)


def test_switch_holds_through_a_reload(make_tts):
    tts = make_tts("v2")
    stock = speak(tts)
    patch(tts)
    tts.use_vocoder_optimization = False
    tts.init_vits_weights(tts.configs.vits_weights_path)
    assert_original(tts, stock)
    tts.use_vocoder_optimization = True
    assert_ours(tts, stock)


def test_settings_come_from_the_pipelines_own_file(make_tts):
    tts = make_tts("v2", use_vocoder_optimization=False, vocoder_chunk_size=7)
    stock = speak(tts)
    assert not patch(tts)
    assert tts.use_vocoder_optimization is False
    assert_original(tts, stock)
    tts.use_vocoder_optimization = True
    assert_ours(tts, stock)
    assert patch(tts, enabled=True) and tts.use_vocoder_optimization is True
    assert patch(tts, Options())


def test_settings_survive_the_rewriting_of_the_file(make_tts):
    tts = make_tts("v2", vocoder_chunk_size=9, vocoder_kernels={"strict": False})
    tts.configs.save_configs()
    with open(tts.configs.configs_path, encoding="utf-8") as file:
        written = yaml.safe_load(file)
    assert written["vocoder_chunk_size"] == 9 and written["vocoder_kernels"] == {"strict": False}


def test_wrong_setting_is_named(make_tts):
    tts = make_tts("v2", vocoder_chunk_size="many")
    with pytest.raises(ValueError, match=r"tts_infer\.yaml: vocoder_chunk_size: .*whole number"):
        patch(tts)
    assert "forward" not in vars(tts.vits_model.dec)


@pytest.mark.parametrize("version", VERSIONS)
def test_unpatch_restores_exactly(make_tts, version):
    tts = make_tts(version)
    stock, attributes = speak(tts), dict(vars(tts))
    patch(tts)
    speak(tts)
    unpatch(tts)
    assert vars(tts) == attributes
    assert_original(tts, stock)
    tts.init_vits_weights(tts.configs.vits_weights_path)
    assert not report(tts)


def test_a_switch_that_was_there_before_comes_back(make_tts):
    tts = make_tts("v2")
    tts.use_vocoder_optimization = "mine"
    patch(tts)
    assert tts.use_vocoder_optimization is True
    unpatch(tts)
    assert tts.use_vocoder_optimization == "mine"


def test_patched_block_keeps_the_switch(make_tts):
    tts = make_tts("v2")
    stock = speak(tts)
    with patched(tts) as outcome:
        assert outcome
        assert_ours(tts, stock)
    assert not hasattr(tts, "use_vocoder_optimization")
    patch(tts)
    tts.use_vocoder_optimization = False
    with patched(tts, enabled=True):
        assert_ours(tts, stock)
    assert tts.use_vocoder_optimization is False
    assert_original(tts, stock)


def test_copies_and_pickles_are_not_patched(make_tts):
    tts = make_tts("v2")
    stock = speak(tts)
    patch(tts)
    for twin in (copy.deepcopy(tts), pickle.loads(pickle.dumps(tts))):
        assert not report(twin)
        assert np.array_equal(speak(twin), stock)
        twin.init_vits_weights(twin.configs.vits_weights_path)
        assert np.array_equal(speak(twin), stock)
        with pytest.raises(RuntimeError, match="copy of a patched one"):
            twin.init_vocoder_optimization()
        assert patch(twin)
        assert_ours(twin, stock)
    assert_ours(tts, stock)


def test_memory_goes_with_the_pipeline_at_once(make_tts):
    tts = make_tts("v3")
    patch(tts)
    gone = weakref.ref(tts), weakref.ref(tts.vocoder)
    gc.collect()
    gc.disable()
    try:
        del tts
        assert [reference() for reference in gone] == [None, None]
    finally:
        gc.enable()


def test_requests_from_many_threads(make_tts):
    """api_v2 answers streaming requests from a pool of threads without a lock."""
    tts = make_tts("v3")
    texts = ["one", "a second, longer sentence", "three" * 20, "the fourth and the last of them"]
    stock = [speak(tts, text=text) for text in texts]
    patch(tts, chunk_frames=16)
    failures = []

    def client(number):
        for i in range(6):
            which = (number + i) % len(texts)
            got = speak(tts, text=texts[which])
            if np.abs(got - stock[which]).max() > 1:
                failures.append((number, i))

    threads = [threading.Thread(target=client, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures and accelerated(tts) == 36


def test_many_speakers_share_one_vocoder(upstream):
    """api.py: a dictionary of speakers, each with its own ``vq_model``, and one global vocoder."""

    class Holder:
        def __init__(self, **attributes):
            vars(self).update(attributes)

    models = [upstream.SynthesizerTrn().eval() for _ in range(2)]
    vocoder = upstream.BigVGAN.from_pretrained("").eval()
    script = type(threading)("script")
    script.speaker_list = {
        name: Holder(name=name, sovits=Holder(vq_model=model)) for name, model in zip("ab", models)
    }
    script.bigvgan_model, script.also = vocoder, {"x": vocoder}
    outcome = patch(script)
    assert sorted(m.path for m in outcome) == [
        "bigvgan_model",
        "speaker_list['a'].sovits.vq_model.dec",
        "speaker_list['b'].sovits.vq_model.dec",
    ]
    assert all(m.status == "patched" for m in outcome)
    unpatch(script)
    assert not any("forward" in vars(m) for m in (vocoder, *(m.dec for m in models)))
