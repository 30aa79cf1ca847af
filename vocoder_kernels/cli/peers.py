"""The same vocoder in ONNX Runtime and OpenVINO, for comparison."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, Callable

import numpy as np
import torch

from ..families import extract
from ..program import Activation, Conv1d, Vocoder
from .measure import interleaved, random_inputs
from .output import milliseconds
from .rows import PEERS, Pair, Row

OPSET = 17
SAME_AUDIO = 1e-4
"""A peer that differs more from eager does not compute the same vocoder."""


def peer_rows(pair: Pair, frames: int, repeats: int, threads: int, check: Row) -> Iterator[Row]:
    """One row per peer, timed in turns with the patched vocoder on the same input."""
    for title, package, compile_peer in PEERS_BY_TITLE:
        name = f"{pair.version}: {title} / patched"
        missing = [p for p in ("onnx", package) if find_spec(p) is None]
        if missing:
            why = f"not installed: pip install {' '.join(missing)}"
            yield Row(name, None, "x", PEERS, why=why)
        elif not check.ok:
            yield Row(name, None, "x", PEERS, ok=False, why=check.why)
        else:
            yield _row(name, pair, compile_peer, frames, repeats, threads)


def _row(name: str, pair: Pair, compile_peer, frames: int, repeats: int, threads: int) -> Row:
    inputs = random_inputs(pair.vocoder, frames)
    arrays = {n: t.numpy() for n, t in zip(("x", "g"), inputs)}
    model = onnx_model(pair.vocoder, extract(pair.eager, pair.vocoder), arrays)
    peer: Callable[[], np.ndarray] = compile_peer(model, arrays, threads)
    with torch.inference_mode():
        expected = pair.eager(*inputs).numpy()
    difference = float(np.abs(peer() - expected).max())
    if difference > SAME_AUDIO:
        why = f"the peer differs from eager by {difference:.1e}"
        return Row(name, None, "x", PEERS, why=why)
    calls = {"peer": peer, "patched": lambda: pair.patched(*inputs)}
    seconds = interleaved(calls, repeats)
    return Row(
        name,
        seconds["peer"] / seconds["patched"],
        "x",
        PEERS,
        baseline=milliseconds(seconds["peer"]),
        patched=milliseconds(seconds["patched"]),
        rtf=f"{seconds['patched'] / pair.seconds(frames):.3f}",
        details={
            "frames": frames,
            "peer_s": seconds["peer"],
            "patched_s": seconds["patched"],
            "peer_difference_from_eager": difference,
        },
    )


def _onnxruntime(model: bytes, arrays: dict, threads: int) -> Callable[[], np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # Waiting threads that spin would take the processor from whoever is timed next.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, arrays)[0]


def _openvino(model: bytes, arrays: dict, threads: int) -> Callable[[], np.ndarray]:
    import openvino

    core = openvino.Core()
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    request = compiled.create_infer_request()

    def call() -> np.ndarray:
        request.infer(arrays)
        return request.get_output_tensor(0).data

    return call


PEERS_BY_TITLE = (
    ("ONNX Runtime", "onnxruntime", _onnxruntime),
    ("OpenVINO", "openvino", _openvino),
)


def onnx_model(
    vocoder: Vocoder, weights: dict[str, torch.Tensor], arrays: dict[str, np.ndarray]
) -> bytes:
    """A LeakyReLU vocoder as ONNX with input shapes fixed, which peers optimise best."""
    graph = _Graph(weights)
    x = graph.conv(vocoder.head, "x")
    if vocoder.cond is not None:
        x = graph.node("Add", [x, graph.conv(vocoder.cond, "g")])
    for stage in vocoder.stages:
        up = stage.up
        x = graph.weighted(
            "ConvTranspose",
            up.name,
            graph.activation(stage.activation, x),
            strides=[up.stride],
            pads=[up.padding, up.padding],
        )
        branches = []
        for branch in stage.branches:
            y = x
            for unit in branch:
                z = y
                for activation, conv in zip(unit.activations, unit.convs):
                    z = graph.conv(conv, graph.activation(activation, z))
                y = graph.node("Add", [z, y])
            branches.append(y)
        total = branches[0]
        for other in branches[1:]:
            total = graph.node("Add", [total, other])
        x = graph.node("Mul", [total, graph.constant(1 / len(branches))])
    x = graph.conv(vocoder.conv_post, graph.activation(vocoder.activation_post, x))
    graph.node("Tanh", [x], output="audio")
    return graph.model(arrays)


class _Graph:
    """Nodes and initialisers of an ONNX graph under construction."""

    def __init__(self, weights: dict[str, torch.Tensor]):
        import onnx

        self._onnx = onnx
        self._weights = weights
        self._nodes: list[Any] = []
        self._initializers: list[Any] = []

    def node(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"t{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: float) -> str:
        name = f"c{len(self._initializers)}"
        array = np.array(value, dtype=np.float32)
        self._initializers.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def weighted(self, kind: str, name: str, x: str, **attributes: Any) -> str:
        inputs = [x]
        for suffix in ("weight", "bias"):
            tensor = self._weights.get(f"{name}.{suffix}")
            if tensor is not None:
                inputs.append(f"{name}.{suffix}")
                array = tensor.detach().contiguous().numpy()
                stored = self._onnx.numpy_helper.from_array(array, inputs[-1])
                self._initializers.append(stored)
        return self.node(kind, inputs, **attributes)

    def conv(self, conv: Conv1d, x: str) -> str:
        halo = conv.halo
        return self.weighted("Conv", conv.name, x, pads=[halo, halo], dilations=[conv.dilation])

    def activation(self, activation: Activation, x: str) -> str:
        if activation.kind != "leaky_relu":
            raise ValueError(f"peers: expected LeakyReLU, got {activation.kind}")
        return self.node("LeakyRelu", [x], alpha=activation.slope)

    def model(self, arrays: dict[str, np.ndarray]) -> bytes:
        helper, kind = self._onnx.helper, self._onnx.TensorProto.FLOAT
        inputs = [helper.make_tensor_value_info(n, kind, a.shape) for n, a in arrays.items()]
        outputs = [helper.make_tensor_value_info("audio", kind, None)]
        graph = helper.make_graph(self._nodes, "vocoder", inputs, outputs, self._initializers)
        opset = [helper.make_opsetid("", OPSET)]
        return helper.make_model(graph, opset_imports=opset, ir_version=9).SerializeToString()
