"""The names of the classic integration guide."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vocoder_kernels import Options, patch, report
from vocoder_kernels.integrations.gpt_sovits.classic import (
    CUDAGraphVocoder,
    OptimizedVocoderProcessor,
)


@pytest.fixture
def vocoder(upstream):
    return upstream.BigVGAN.from_pretrained("").eval()


def accelerated(vocoder):
    return report(vocoder).modules[0].statistics.get("accelerated", 0)


def test_chunks_have_no_edges(vocoder):
    """The guide cuts 137 frames into bare chunks of 20, and warns of their audible edges."""
    mel = torch.randn(1, 10, 137)
    with torch.inference_mode():
        whole = vocoder(mel)
        chunked = torch.cat([vocoder(mel[..., i : i + 20]) for i in range(0, 137, 20)], -1)
    processor = OptimizedVocoderProcessor(vocoder, device="cpu", chunk_size=20)
    audio = processor.process_optimized(mel)
    assert accelerated(vocoder) == 1 and audio.shape == whole.shape
    assert (audio - whole).abs().max() <= 1e-5
    assert (chunked - whole).abs().max() > 1e-2
    assert processor.chunk_size == 20 and processor.vocoder_model is vocoder


def test_graph_vocoder_takes_any_length(vocoder):
    graph = CUDAGraphVocoder(vocoder, "cpu", max_cached_shapes=3)
    assert graph.initialize_graph((1, 10, 30), num_warmup=2)
    for frames in (5, 30, 61):
        mel = torch.randn(2, 10, frames)
        before = accelerated(vocoder)
        for audio in (graph(mel), graph.inference(mel)):
            with torch.no_grad():
                assert (audio - type(vocoder).forward(vocoder, mel)).abs().max() <= 1e-5
            audio /= 2  # the caller's own tensor
        assert accelerated(vocoder) == before + 2


@pytest.mark.parametrize("kind", [OptimizedVocoderProcessor, CUDAGraphVocoder])
def test_what_cannot_be_sped_up_is_an_error(kind, vocoder):
    with pytest.raises(ValueError, match="expected on cuda, but it is on cpu"):
        kind(vocoder, device="cuda")
    with pytest.raises(NotImplementedError, match="float64"):
        kind(vocoder.double())
    with pytest.raises(NotImplementedError, match="found none in Linear"):
        kind(torch.nn.Linear(2, 2))


def test_switched_off_by_the_environment(vocoder, monkeypatch):
    monkeypatch.setenv("VOCODER_KERNELS_ENABLED", "off")
    mel = torch.randn(1, 10, 30)
    audio = OptimizedVocoderProcessor(vocoder).process_optimized(mel)
    assert accelerated(vocoder) == 0
    with torch.no_grad():
        assert torch.equal(audio, type(vocoder).forward(vocoder, mel))


def test_methods_of_a_patched_pipeline(make_tts):
    tts = make_tts("v3")
    assert not hasattr(tts, "init_vocoder_optimization")
    codes = torch.arange(40)[None, None] % 32
    stock = tts.using_vocoder_synthesis(codes, None)
    patch(tts)
    assert tts.init_vocoder_optimization() is True
    ours = tts.using_vocoder_synthesis_optimized(codes, None, 1.0, sample_steps=8)
    assert accelerated(tts.vocoder) == 1
    assert (ours - stock).abs().max() <= 1e-5
    tts.use_vocoder_optimization = False
    assert tts.init_vocoder_optimization() is False
    assert torch.equal(tts.using_vocoder_synthesis_optimized(codes, None), stock)


def test_methods_pasted_after_the_guide_are_superseded(make_tts, upstream):
    """Its users have these methods in their ``TTS`` already."""

    class Pasted(upstream.TTS):
        def init_vocoder_optimization(self):
            raise AssertionError("the pasted method ran")

        using_vocoder_synthesis_optimized = init_vocoder_optimization

    tts = make_tts("v3")
    tts.__class__ = Pasted
    patch(tts)
    codes = torch.arange(8)[None, None]
    assert tts.init_vocoder_optimization()
    assert np.isfinite(tts.using_vocoder_synthesis_optimized(codes, None).numpy()).all()


def test_a_processor_keeps_a_pipelines_switch(make_tts):
    tts = make_tts("v3")
    patch(tts)
    processor = OptimizedVocoderProcessor(tts.vocoder, device=tts.configs.device, chunk_size=30)
    mel = torch.randn(1, 10, 50)
    processor.process_optimized(mel)
    tts.use_vocoder_optimization = False
    before = accelerated(tts.vocoder)
    processor.process_optimized(mel)
    assert accelerated(tts.vocoder) == before
    assert patch(tts, Options())
