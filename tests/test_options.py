"""Settings: defaults, environment, arguments, in that order; a wrong value is named."""

from __future__ import annotations

import dataclasses
import re

import pytest
from reference import CONFIGS, build

from vocoder_kernels import Options, compile, native, patch, unpatch
from vocoder_kernels.options import BACKENDS, INSTRUCTION_SETS, PREFIX


def test_defaults():
    assert Options.resolve({}) == Options()
    assert Options().backend == "auto" and Options().verify and not Options().strict


def test_arguments_go_before_the_environment_and_it_before_defaults():
    environ = {f"{PREFIX}CHUNK_FRAMES": "7", f"{PREFIX}VERIFY": "off"}
    options = Options.resolve(environ, {"chunk_frames": 5, "threads": 2}, verify=True)
    assert (options.chunk_frames, options.threads, options.verify) == (7, 2, True)
    assert Options.resolve({}, {"chunk_frames": 5}, chunk_frames=None).chunk_frames == 5


@pytest.mark.parametrize("word,value", [("1", True), ("ON", True), ("yes", True), ("true", True),
                                        ("0", False), ("Off", False), ("no", False)])  # fmt: skip
def test_words_for_on_and_off(word, value):
    assert Options.resolve({f"{PREFIX}STRICT": f" {word} "}).strict is value


def test_an_empty_variable_is_none_at_all():
    assert Options.resolve({f"{PREFIX}CHUNK_FRAMES": " ", f"{PREFIX}BACKEND": ""}) == Options()


def test_every_option_has_a_variable():
    texts = {"bool": "off", "int | None": "3", "str": "cpu"}
    for field in dataclasses.fields(Options):
        text = "generic" if field.name == "isa" else texts[str(field.type)]
        value = getattr(Options.resolve({PREFIX + field.name.upper(): text}), field.name)
        assert str(value).lower() in (text, "false")


WRONG = [
    ("CHUNK_FRAMES", "many", "VOCODER_KERNELS_CHUNK_FRAMES: expected a whole number, got 'many'"),
    ("CHUNK_FRAMES", "2.5", "VOCODER_KERNELS_CHUNK_FRAMES: expected a whole number, got '2.5'"),
    ("CHUNK_FRAMES", "0", "VOCODER_KERNELS_CHUNK_FRAMES: expected at least 1, got 0"),
    ("THREADS", "-2", "VOCODER_KERNELS_THREADS: expected at least 1, got -2"),
    ("STRICT", "maybe", "VOCODER_KERNELS_STRICT: expected on or off, got 'maybe'"),
    ("BACKEND", "tpu", "VOCODER_KERNELS_BACKEND: expected one of auto, cpu, cuda, got 'tpu'"),
    ("ISA", "sse", "VOCODER_KERNELS_ISA: expected one of auto, avx512, avx2, generic, got 'sse'"),
]


@pytest.mark.parametrize("name,text,words", WRONG)
def test_a_wrong_variable_is_named(name, text, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        Options.resolve({PREFIX + name: text})


@pytest.mark.parametrize(
    "arguments,kind,words",
    [
        ({"chunk_frames": 0}, ValueError, "chunk_frames: expected at least 1, got 0"),
        ({"chunk_frames": 2.0}, TypeError, "chunk_frames: expected a whole number or None"),
        ({"chunk_frames": True}, TypeError, "chunk_frames: expected a whole number or None"),
        ({"threads": "2"}, TypeError, "threads: expected a whole number or None, got '2'"),
        ({"strict": 1}, TypeError, "strict: expected True or False, got 1"),
        ({"backend": "gpu"}, ValueError, f"backend: expected one of {', '.join(BACKENDS)}"),
        ({"isa": "neon"}, ValueError, f"isa: expected one of {', '.join(INSTRUCTION_SETS)}"),
        ({"isa": ["avx2"]}, ValueError, "isa: expected one of"),
        ({"chunk": 3}, TypeError, "options: unknown chunk; known are "),
    ],
)
def test_a_wrong_argument_is_named(arguments, kind, words):
    with pytest.raises(kind, match=re.escape(words)):
        Options.resolve({}, **arguments)


def test_options_are_values():
    assert len({Options(), Options(), Options(threads=1)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        Options().strict = True


def test_the_environment_reaches_patch(monkeypatch):
    model = build(CONFIGS["hifigan"])
    monkeypatch.setenv(f"{PREFIX}ENABLED", "off")
    assert patch(model).modules[0].why == "disabled by option"
    unpatch(model)
    monkeypatch.setenv(f"{PREFIX}ENABLED", "perhaps")
    with pytest.raises(ValueError, match=f"{PREFIX}ENABLED: expected on or off"):
        patch(model)
    assert "forward" not in vars(model)


@pytest.mark.skipif(not native.available(), reason="the native kernels were not built")
def test_an_instruction_set_that_is_not_here_is_named():
    missing = next((i for i in INSTRUCTION_SETS[1:] if i not in native.isas()), None)
    if missing is None:
        pytest.skip("this processor has every instruction set")
    with pytest.raises(ValueError, match=f"isa: expected auto or one of .*, got '{missing}'"):
        compile(build(CONFIGS["hifigan"]), isa=missing)
