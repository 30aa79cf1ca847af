"""Keys of ``tts_infer.yaml`` and the environment over them."""

from __future__ import annotations

import pytest

from vocoder_kernels import Options
from vocoder_kernels.integrations.gpt_sovits.config import options_from_file


@pytest.fixture
def read(tmp_path):
    def read(text: str, **environ: str) -> Options:
        path = tmp_path / "tts_infer.yaml"
        path.write_text(text, encoding="utf-8")
        return options_from_file(path, environ)

    return read


def test_defaults(read, tmp_path):
    want = Options(enabled=True, chunk_frames=500)
    assert options_from_file(tmp_path / "no such file.yaml", {}) == want
    assert read("") == want
    assert read("custom:\n  version: v2\n") == want


def test_keys_and_section(read):
    text = """
use_vocoder_optimization: false
vocoder_chunk_size: 300
vocoder_kernels:
  backend: cpu
  strict: true
  threads: 3
"""
    want = Options(enabled=False, chunk_frames=300, backend="cpu", strict=True, threads=3)
    assert read(text) == want
    assert read("vocoder_kernels:\n") == Options(chunk_frames=500)
    assert read("vocoder_kernels: {chunk_frames: 7}\nvocoder_chunk_size: 9").chunk_frames == 7


def test_environment_wins(read):
    text = "use_vocoder_optimization: true\nvocoder_chunk_size: 300\nvocoder_kernels: {isa: avx2}"
    got = read(
        text,
        VOCODER_KERNELS_ENABLED="off",
        VOCODER_KERNELS_CHUNK_FRAMES="120",
        VOCODER_KERNELS_ISA="generic",
    )
    assert got == Options(enabled=False, chunk_frames=120, isa="generic")


@pytest.mark.parametrize(
    "text,key,allowed",
    [
        ("use_vocoder_optimization: maybe", "use_vocoder_optimization", "True or False"),
        ("use_vocoder_optimization: 1", "use_vocoder_optimization", "True or False"),
        ("vocoder_chunk_size: 0", "vocoder_chunk_size", "at least 1"),
        ("vocoder_chunk_size: 2.5", "vocoder_chunk_size", "a whole number"),
        ("vocoder_kernels: {backend: tpu}", "vocoder_kernels.backend", "auto, cpu, cuda"),
        ("vocoder_kernels: {isa: sse}", "vocoder_kernels.isa", "avx512, avx2, generic"),
        ("vocoder_kernels: {chunks: 3}", "vocoder_kernels.chunks", "allowed are enabled, backend"),
        ("vocoder_kernels: [strict]", "vocoder_kernels", "a section of keys"),
        ("- a\n- b", "tts_infer.yaml", "keys and values at the top level"),
        ("a: [", "tts_infer.yaml", "not valid YAML"),
    ],
)
def test_wrong_values_name_file_key_and_what_is_allowed(read, tmp_path, text, key, allowed):
    with pytest.raises(ValueError) as error:
        read(text)
    message = str(error.value)
    assert str(tmp_path / "tts_infer.yaml") in message
    assert key in message and allowed in message


def test_wrong_environment_names_the_variable(read):
    with pytest.raises(ValueError, match="VOCODER_KERNELS_STRICT: expected on or off, got 'si'"):
        read("", VOCODER_KERNELS_STRICT="si")


def test_keys_where_upstream_would_drop_them_are_pointed_out(read, caplog):
    """The classic guide writes them into the sections of versions; the pipeline drops them from
    ``custom`` at every start."""
    assert read("custom:\n  vocoder_chunk_size: 77\n").chunk_frames == 500
    assert "custom.vocoder_chunk_size" in caplog.text and "top level" in caplog.text
