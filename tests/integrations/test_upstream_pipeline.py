"""GPT-SoVITS' own ``TTS`` and ``SynthesizerTrn``, out of the published package: loading, requests,
the reload after a failed one, casts and moves - its code, with small random models."""

from __future__ import annotations

import importlib
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference.upstream import FOLDER, SHARED_NAMES, importing_from, must_have
from torch import nn

from vocoder_kernels import modules, patch, report, unpatch
from vocoder_kernels.integrations.gpt_sovits.timing import timed

HPS = {
    "data": {
        "filter_length": 2048,
        "sampling_rate": 32000,
        "hop_length": 640,
        "win_length": 2048,
        "n_speakers": 300,
    },
    "train": {"segment_size": 20480},
    "model": {
        "inter_channels": 16,
        "hidden_channels": 192,
        "filter_channels": 32,
        "n_heads": 2,
        "n_layers": 1,
        "kernel_size": 3,
        "p_dropout": 0.1,
        "resblock": "1",
        "resblock_kernel_sizes": [3, 7],
        "resblock_dilation_sizes": [[1, 3, 5]] * 2,
        "upsample_rates": [10, 8, 2, 2, 2],
        "upsample_initial_channel": 64,
        "upsample_kernel_sizes": [16, 16, 8, 2, 2],
        "gin_channels": 512,
    },
}
REQUEST = {"text": "hello", "text_lang": "en", "prompt_lang": "en", "seed": 1}


@pytest.fixture(scope="module")
def upstream():
    """The module ``TTS_infer_pack.TTS`` of the package, whose other needs are stood in for."""
    must_have("GPT_SoVITS")
    before, path = set(sys.modules), list(sys.path)
    try:
        with importing_from(FOLDER), importing_from(FOLDER / "GPT_SoVITS"):
            module = importlib.import_module("TTS_infer_pack.TTS")
            quantizer = importlib.import_module("module.quantize").ResidualVectorQuantizer
        # The codebook's look-up is written with einops, of which only this needs anything.
        codebook = torch.randn(1024, 768, generator=torch.Generator().manual_seed(0))
        quantizer.decode = lambda self, codes, st=0: codebook[codes[0]].transpose(1, 2)
        yield module
    finally:
        sys.path[:] = path
        own = (*SHARED_NAMES, "TTS_infer_pack", "tools", "AR", "sv", "process_ckpt")
        for name in set(sys.modules) - before:
            if name.partition(".")[0] in own:
                del sys.modules[name]


class Semantic(nn.Module):
    """Twenty tokens for any text; fails when told to."""

    fail = False

    def infer_panel_batch_infer(self, phones, *args, **kwargs):
        if Semantic.fail:
            raise RuntimeError("a request that fails")
        tokens = [torch.arange(20) * 31 % 1024 for _ in phones]
        return tokens, [20] * len(tokens)

    infer_panel_naive = infer_panel_naive_batched = infer_panel_batch_infer


class Preprocessor:
    def preprocess(self, text, *args, **kwargs):
        features = {"phones": [1, 2, 3, 4], "bert_features": torch.zeros(1024, 4)}
        return [{**features, "norm_text": text}]


@pytest.fixture
def tts(upstream, monkeypatch):
    torch.manual_seed(0)
    model = upstream.SynthesizerTrn(
        1025, 32, n_speakers=300, **HPS["model"], semantic_frame_rate="25hz", version="v2"
    )
    voice = modules.presets.randomise_(
        modules.Generator(
            16, "1", (3, 7), ((1, 3, 5),) * 2, (10, 8, 2, 2, 2), 64, (16, 16, 8, 2, 2), 512
        )
    ).state_dict()
    with torch.no_grad():
        for name, layer in model.dec.named_modules():
            if hasattr(layer, "weight_g"):
                weight = voice.pop(f"{name}.weight")
                layer.weight_v.copy_(weight)
                layer.weight_g.copy_(torch.norm_except_dim(weight, 2, 0))
    model.dec.load_state_dict(voice, strict=False)
    weights = {k: v.clone() for k, v in model.state_dict().items()}
    monkeypatch.setattr(
        upstream, "get_sovits_version_from_path_fast", lambda _: ("v2", "v2", False)
    )
    config = {**HPS, "model": dict(HPS["model"])}
    monkeypatch.setattr(
        upstream, "load_sovits_new", lambda _: {"config": config, "weight": weights}
    )
    pipeline = upstream.TTS.__new__(upstream.TTS)
    pipeline.configs = SimpleNamespace(
        device=torch.device("cpu"),
        is_half=False,
        version="v2",
        languages=["en"],
        hz=50,
        max_sec=10,
        t2s_weights_path="",
        vits_weights_path="weights.pth",
        use_vocoder=False,
        save_configs=lambda: None,
        update_version=lambda version: None,
        mute_emb_sim_matrix=None,
    )
    pipeline.t2s_model = pipeline.bert_model = pipeline.cnhuhbert_model = None
    pipeline.sv_model, pipeline.stop_flag, pipeline.precision = None, False, torch.float32
    pipeline.text_preprocessor = Preprocessor()
    pipeline.prompt_cache = {
        "ref_audio_path": "a.wav",
        "prompt_semantic": torch.zeros(5, dtype=torch.long),
        "refer_spec": [(torch.rand(1, 1025, 30), None)],
        "prompt_text": "a.",
        "prompt_lang": "en",
        "phones": [1, 2],
        "bert_features": torch.zeros(1024, 2),
        "norm_text": "a.",
        "aux_ref_audio_paths": [],
        "runtime": {},
    }
    pipeline._invalidate_prompt_runtime_cache()
    semantic = nn.Module()
    semantic.model = Semantic()
    pipeline.init_t2s_weights = lambda path: setattr(pipeline, "t2s_model", semantic)
    pipeline.init_t2s_weights("")
    pipeline.init_vits_weights("weights.pth")
    return pipeline


def speak(tts, **more):
    # The latent is sampled from the prior: the request's seed has to fix it.
    torch.manual_seed(3)
    return np.concatenate([s for _, s in tts.run({**REQUEST, "prompt_text": "", **more})]).astype(
        int
    )


def accelerated(tts):
    return sum(m.statistics.get("accelerated", 0) for m in report(tts))


@pytest.mark.parametrize("parallel", [True, False])
def test_requests(tts, parallel):
    stock = speak(tts, ref_audio_path="a.wav", parallel_infer=parallel)
    assert np.abs(stock).max() > 1000
    outcome = patch(tts)
    assert [(m.path, m.status) for m in outcome] == [("vits_model.dec", "patched")], str(outcome)
    got = speak(tts, ref_audio_path="a.wav", parallel_infer=parallel)
    assert accelerated(tts) >= 1 and not report(tts).modules[0].originals
    assert np.abs(got - stock).max() <= 1
    unpatch(tts)
    assert np.array_equal(speak(tts, ref_audio_path="a.wav", parallel_infer=parallel), stock)


def test_reload_after_a_failed_request(tts, monkeypatch, capsys):
    stock = speak(tts, ref_audio_path="a.wav")
    patch(tts)
    model = tts.vits_model
    monkeypatch.setattr(Semantic, "fail", True)
    with pytest.raises(RuntimeError, match="a request that fails"):
        speak(tts, ref_audio_path="a.wav")
    monkeypatch.setattr(Semantic, "fail", False)
    assert tts.vits_model is not model
    got = speak(tts, ref_audio_path="a.wav")
    assert accelerated(tts) >= 1 and np.abs(got - stock).max() <= 1


def test_casts_moves_and_the_switch(tts):
    stock = speak(tts, ref_audio_path="a.wav")
    patch(tts)
    tts.set_device(torch.device("cpu"))
    tts.enable_half_precision(False)
    assert np.abs(speak(tts, ref_audio_path="a.wav") - stock).max() <= 1
    tts.use_vocoder_optimization = False
    assert np.array_equal(speak(tts, ref_audio_path="a.wav"), stock)
    tts.use_vocoder_optimization = True
    before = accelerated(tts)
    speak(tts, ref_audio_path="a.wav")
    assert accelerated(tts) > before


def test_stage_times(tts):
    patch(tts)
    with timed(tts) as times:
        speak(tts, ref_audio_path="a.wav")
    assert times.calls["text"] >= 1 and times.calls["semantic"] == 1
    assert times.calls["acoustic"] >= 1 and times.calls["vocoder"] >= 1
