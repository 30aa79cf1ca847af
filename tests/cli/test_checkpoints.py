"""Reading checkpoints, mels and speakers from files: every layout, and nothing unsafe."""

from __future__ import annotations

import json
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from cli.conftest import BIGVGAN_CONFIG, narrow_bigvgan, narrow_v2
from torch.nn.utils import parametrizations, weight_norm

from vocoder_kernels.checkpoint_layout import BadCheckpoint
from vocoder_kernels.checkpoints import load_condition, load_input, load_vocoder
from vocoder_kernels.modules import build

SOVITS_MODEL = {
    "inter_channels": 24,
    "resblock": "1",
    "resblock_kernel_sizes": [3, 7, 11],
    "resblock_dilation_sizes": [[1, 3, 5]] * 3,
    "upsample_rates": [10, 8, 2, 2, 2],
    "upsample_initial_channel": 64,
    "upsample_kernel_sizes": [16, 16, 8, 2, 2],
    "gin_channels": 16,
}


def convolutions(module):
    kinds = (torch.nn.Conv1d, torch.nn.ConvTranspose1d)
    return [m for m in module.modules() if isinstance(m, kinds)]


def same_audio(a, b, channels, gin=0, frames=5):
    x = torch.randn(1, channels, frames)
    inputs = (x, torch.randn(1, gin, 1)) if gin else (x,)
    with torch.inference_mode():
        torch.testing.assert_close(a(*inputs), b(*inputs), atol=1e-6, rtol=0)


def sovits_file(path, module, config, header=b""):
    state = {f"dec.{n}": t for n, t in module.state_dict().items()}
    state["enc_p.proj.weight"] = torch.zeros(2, 2)
    torch.save({"weight": state, "config": config, "info": "1epoch"}, path)
    if header:
        path.write_bytes(header + path.read_bytes()[2:])


@pytest.mark.parametrize("header", [b"", b"06"])
def test_sovits_checkpoint_with_old_weight_norm(tmp_path, header):
    module = narrow_v2()
    expected = narrow_v2()
    for conv in convolutions(module):
        weight_norm(conv)
    path = tmp_path / "voice.pth"
    sovits_file(path, module, {"model": SOVITS_MODEL, "data": {"sampling_rate": 32000}}, header)
    loaded = load_vocoder(path)
    same_audio(loaded.module, expected, 24, 16)
    assert loaded.rate_hz == 32000
    assert loaded.notes == ()
    assert loaded.version == ("v2ProPlus" if header else "")


def test_configuration_object_of_the_trainer(tmp_path, monkeypatch):
    """Training writes its HParams object into the file; it is read without importing its class."""
    utils = types.ModuleType("utils")

    class HParams:
        def __init__(self, **values):
            for name, value in values.items():
                setattr(self, name, HParams(**value) if isinstance(value, dict) else value)

    HParams.__module__, HParams.__qualname__ = "utils", "HParams"
    utils.HParams = HParams
    monkeypatch.setitem(sys.modules, "utils", utils)
    path = tmp_path / "voice.pth"
    sovits_file(path, narrow_v2(), HParams(model=SOVITS_MODEL, data={"sampling_rate": 32000}))
    monkeypatch.delitem(sys.modules, "utils")
    loaded = load_vocoder(path)
    same_audio(loaded.module, narrow_v2(), 24, 16)
    assert loaded.rate_hz == 32000
    assert "utils" not in sys.modules


def test_sizes_without_configuration_are_assumed_and_said(tmp_path):
    torch.save(narrow_v2().state_dict(), tmp_path / "bare.pth")
    loaded = load_vocoder(tmp_path / "bare.pth")
    same_audio(loaded.module, narrow_v2(), 24, 16)
    assert any("upsample_rates [10, 8, 2, 2, 2] assumed" in note for note in loaded.notes)
    assert loaded.rate_hz is None


@pytest.mark.parametrize("version", ["v2", "v4"])
def test_version_is_recognised_from_bare_weights(tmp_path, version):
    torch.save(build(version).state_dict(), tmp_path / "vocoder.pth")
    loaded = load_vocoder(tmp_path / "vocoder.pth")
    assert loaded.version == version
    assert loaded.rate_hz == {"v2": 32000, "v4": 48000}[version]


@pytest.mark.parametrize("where", ["beside", "given"])
def test_bigvgan_with_its_configuration(tmp_path, where):
    module = narrow_bigvgan()
    for conv in convolutions(module):
        parametrizations.weight_norm(conv)
    folder = tmp_path / "model"
    folder.mkdir()
    torch.save({"generator": module.state_dict()}, folder / "bigvgan_generator.pt")
    config = (folder if where == "beside" else tmp_path) / "config.json"
    config.write_text(json.dumps(BIGVGAN_CONFIG))
    given = None if where == "beside" else config
    loaded = load_vocoder(folder / "bigvgan_generator.pt", given)
    same_audio(loaded.module, narrow_bigvgan(), 20)
    assert loaded.rate_hz == 24000


def test_safetensors(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch", reason="safetensors is not installed")
    state = {f"dec.{n}": t.contiguous() for n, t in narrow_v2().half().state_dict().items()}
    safetensors.save_file(state, tmp_path / "voice.safetensors")
    loaded = load_vocoder(tmp_path / "voice.safetensors")
    same_audio(loaded.module, narrow_v2().half().float(), 24, 16)


class Dangerous:
    ran = False

    def __reduce__(self):
        return (setattr, (Dangerous, "ran", True))


def test_code_in_a_file_does_not_run(tmp_path):
    for name in ("evil.pth", "evil.pt"):
        torch.save({"weight": {"dec.conv_pre.weight": Dangerous()}}, tmp_path / name)
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Dangerous()))
    for name, why in (
        ("evil.pth", r"cannot be loaded safely: it holds \S*setattr"),
        ("plain.pth", "not a PyTorch file"),
    ):
        with pytest.raises(BadCheckpoint, match=why) as refusal:
            load_vocoder(tmp_path / name)
        assert "weights_only" not in str(refusal.value)
    with pytest.raises(BadCheckpoint):
        load_input(tmp_path / "evil.pt", 4)
    np.save(tmp_path / "evil.npy", np.array([Dangerous()], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="cannot be read as numbers"):
        load_input(tmp_path / "evil.npy", 4)
    assert not Dangerous.ran


def test_files_that_are_no_checkpoints(tmp_path):
    (tmp_path / "text.pth").write_text("hello")
    (tmp_path / "empty.pth").write_bytes(b"")
    torch.save({"weight": {"enc_p.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    torch.save(torch.zeros(3), tmp_path / "tensor.pth")
    for name, why in (
        ("text.pth", "not a PyTorch file"),
        ("empty.pth", "not a PyTorch file"),
        ("other.pth", "no vocoder in it"),
        ("tensor.pth", "no vocoder in it"),
    ):
        with pytest.raises(BadCheckpoint, match=why):
            load_vocoder(tmp_path / name)
    with pytest.raises(FileNotFoundError, match="no such file"):
        load_vocoder(tmp_path / "missing.pth")


@pytest.mark.parametrize("damage", ["cut", "scattered", "blank"])
def test_damaged_files_are_errors_or_whole(tmp_path, damage):
    """Whatever a torn download or a bad disk leaves: a sentence, or the weights are all there."""
    path = tmp_path / "voice.pth"
    torch.save(narrow_v2().state_dict(), path)
    whole = path.read_bytes()
    for seed in range(25):
        chance = np.random.default_rng(seed)
        data = np.frombuffer(whole, np.uint8).copy()
        where = chance.integers(0, len(data))
        if damage == "cut":
            data = data[:where]
        elif damage == "scattered":
            data[chance.integers(0, len(data), 30)] = chance.integers(0, 256, 30)
        else:
            data[where % 4000 :][:60] = 0
        path.write_bytes(data.tobytes())
        try:
            loaded = load_vocoder(path)
        except BadCheckpoint as error:
            assert str(error).startswith(f"{path}: ")
        else:
            assert loaded.module.conv_pre.weight.shape == (64, 24, 7)


@pytest.mark.parametrize(
    "settings,why",
    [
        (
            {"upsample_rates": [10, 8, 2, 2, 0]},
            "upsample_rates: expected whole numbers of at least",
        ),
        ({"upsample_rates": [10, 8, 2, 2, 1.5]}, "upsample_rates: expected whole numbers"),
        ({"upsample_rates": "fast"}, "upsample_rates: expected whole numbers"),
        ({"upsample_rates": [10, 8, 2, 2, 100]}, "rate 100 is above its kernel size, 2"),
        ({"upsample_rates": [10, 8]}, "2 upsample_rates, but the weights have 5 ups"),
        ({"resblock_dilation_sizes": 3}, "resblock_dilation_sizes: expected lists, got 3"),
        ({"resblock_dilation_sizes": [[1, "3", 5]] * 3}, "dilation_sizes: expected whole numbers"),
        ({"resblock_dilation_sizes": [[1, 3, 0]] * 3}, "dilation_sizes: expected whole numbers"),
        ({"sampling_rate": "high"}, "sampling_rate: expected whole numbers"),
        ({"sampling_rate": -1}, "sampling_rate: expected whole numbers"),
    ],
)
def test_settings_that_make_no_sense(tmp_path, settings, why):
    sovits_file(tmp_path / "voice.pth", narrow_v2(), {"model": {**SOVITS_MODEL, **settings}})
    with pytest.raises(BadCheckpoint, match=why):
        load_vocoder(tmp_path / "voice.pth")


@pytest.mark.parametrize("dtype", [torch.int64, torch.complex64, torch.bool])
def test_weights_that_are_no_real_numbers(tmp_path, dtype):
    state = narrow_v2().state_dict()
    state["conv_pre.bias"] = state["conv_pre.bias"].to(dtype)
    torch.save(state, tmp_path / "voice.pth")
    with pytest.raises(BadCheckpoint, match="conv_pre.bias: expected floating-point numbers"):
        load_vocoder(tmp_path / "voice.pth")


def test_a_configuration_older_than_its_keys(tmp_path):
    """Upstream's default for what a BigVGAN configuration lacks is tanh, whatever v3 does."""
    torch.save(narrow_bigvgan(use_tanh_at_final=True).state_dict(), tmp_path / "generator.pt")
    settings = {k: v for k, v in BIGVGAN_CONFIG.items() if k != "use_tanh_at_final"}
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert load_vocoder(tmp_path / "generator.pt").module.use_tanh_at_final


def test_v3_model_without_vocoder_names_the_vocoders_file(tmp_path):
    path = tmp_path / "s2.pth"
    torch.save({"weight": {"cfm.weight": torch.zeros(1)}}, path)
    path.write_bytes(b"04" + path.read_bytes()[2:])
    with pytest.raises(BadCheckpoint, match="vocoder.pth for v4"):
        load_vocoder(path)


def test_weights_that_do_not_fit(tmp_path):
    path = tmp_path / "bigvgan.pt"
    torch.save(narrow_bigvgan().state_dict(), path)
    with pytest.raises(BadCheckpoint, match="--config"):
        load_vocoder(path)
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**BIGVGAN_CONFIG, "upsample_rates": [4, 2, 2]}))
    with pytest.raises(BadCheckpoint, match="3 upsample_rates"):
        load_vocoder(path)
    config.write_text(json.dumps({**BIGVGAN_CONFIG, "resblock_dilation_sizes": [[1, 3]] * 3}))
    with pytest.raises(BadCheckpoint, match="dilations"):
        load_vocoder(path)
    config.write_text("{")
    with pytest.raises(BadCheckpoint, match="not valid JSON"):
        load_vocoder(path)
    config.unlink()
    state = narrow_v2().state_dict()
    del state["resblocks.0.convs1.1.weight"]
    torch.save(state, tmp_path / "torn.pth")
    with pytest.raises(BadCheckpoint, match="resblocks.0.convs1.1.weight"):
        load_vocoder(tmp_path / "torn.pth", None)


def test_inputs_of_every_kind(tmp_path):
    mel = np.random.default_rng(0).normal(size=(20, 7)).astype(np.float32)
    np.save(tmp_path / "a.npy", mel)
    np.save(tmp_path / "b.npy", mel.T.astype(np.float64))
    np.savez(tmp_path / "c.npz", mel=mel, other=np.zeros(3))
    torch.save(torch.from_numpy(mel)[None].half(), tmp_path / "d.pt")
    torch.save({"z": torch.from_numpy(mel)}, tmp_path / "e.pt")
    for name, tolerance in (("a.npy", 0), ("b.npy", 0), ("c.npz", 0), ("d.pt", 2e-3), ("e.pt", 0)):
        x = load_input(tmp_path / name, 20)
        assert x.shape == (1, 20, 7) and x.dtype == torch.float32
        torch.testing.assert_close(x[0], torch.from_numpy(mel), atol=tolerance, rtol=0)
    np.save(tmp_path / "g.npy", np.ones((16,), np.float32))
    assert load_condition(tmp_path / "g.npy", 16).shape == (1, 16, 1)
    with pytest.raises(ValueError, match="expected 8 values"):
        load_condition(tmp_path / "g.npy", 8)


@pytest.mark.parametrize(
    "array,why",
    [
        (np.zeros((3, 5)), r"expected \[20, T\], got \[1, 3, 5\]"),
        (np.zeros(20), r"expected \[20, T\]"),
        (np.zeros((20, 0)), "at least one frame"),
        (np.zeros((20, 4), complex), "real numbers"),
        (np.array(["a", "b"]), "real numbers"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path, array, why):
    np.save(tmp_path / "x.npy", array)
    with pytest.raises(ValueError, match=why):
        load_input(tmp_path / "x.npy", 20)


def test_ambiguous_or_unknown_input_files(tmp_path):
    np.savez(tmp_path / "two.npz", a=np.zeros(1), b=np.zeros(1))
    with pytest.raises(ValueError, match="it has a, b"):
        load_input(tmp_path / "two.npz", 20)
    (tmp_path / "x.txt").write_text("1 2 3")
    with pytest.raises(ValueError, match="expected a file of type"):
        load_input(tmp_path / "x.txt", 20)
    (tmp_path / "x.npy").write_bytes(b"not numpy")
    with pytest.raises(ValueError, match="cannot be read as numbers"):
        load_input(tmp_path / "x.npy", 20)
