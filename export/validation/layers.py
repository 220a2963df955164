"""Does each layer of a written bundle compute what PyTorch does? One layer in memory at a time.

A whole run of a bundle (:mod:`export.validation.parity`) needs all of its weights in memory. Here one layer
at a time is run with the weights that lie in the bundle's files, and the same layer of transformers with
those of the checkpoint, over the same random hidden states. Errors of layers do not add up, so a layer that
is swapped or damaged differs clearly from one that is rounded.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnx import TensorProto
from torch import Tensor, nn

from edge_runtime.backends.ort import session_options
from export.decoder.deferred import DeferredModel
from export.decoder.graph import DecoderGraph, Lowering
from export.decoder.parts import DecoderParts
from export.decoder.to_onnx import export_decoder
from export.errors import ExportError
from export.quiet import quiet
from train.models.stored import weight_rows

ROWS, POSITIONS = 64, 24
LIMITS = {"fp32": 0.01, "fp16": 0.02, "int8": 0.1, "fp8": 0.2, "int4": 0.4}
"""Relative error (root mean square) of a layer above which it is broken, not rounded."""
_HEAD_ROWS = 1 << 16
_FILE = ".layer.onnx"


@dataclass(frozen=True)
class Check:
    """What to compare. ``decoder``: transformers' own, whose layers ``parts`` names.

    ``quantize``: from the graph in floating point to that of the bundle.
    """

    decoder: Any
    parts: DecoderParts
    lowering: Lowering
    precision: str
    dtype: torch.dtype
    quantize: Callable[[DeferredModel], DeferredModel]


def compare_layers(
    folder: Path, file: str, check: Check, progress: Callable[[str], None] = lambda _: None
) -> dict[str, Any]:
    """Compare every layer, and the output matrix behind the last one, of the graph ``file`` in ``folder``.

    Returns the manifest's section ``layer_parity``. Raises ExportError for one that differs too much.
    """
    written = onnx.load(folder / file, load_external_data=False)
    tensors = {tensor.name: tensor for tensor in written.graph.initializer}
    layers = len(check.parts.layers)
    errors = []
    inner = _one_layer(
        check, _identity(check.parts.config.hidden_size), lambda graph: _but_head(check, graph)
    )
    for index in range(layers):
        last = index == layers - 1
        graph = _one_layer(check, check.parts.head, check.quantize) if last else inner
        errors.append(_compare(folder, graph, tensors, check, index))
        if not errors[-1] <= LIMITS[check.precision]:
            raise ExportError(
                f"layer {index} of the bundle differs from the model's by {errors[-1]:.3g} (relative), "
                "nothing was written"
            )
        if index % 8 == 7:
            progress(f"layer {index + 1} of {layers} compared")
    return {
        "layers": layers,
        "rms_rel_diff_max": float(f"{max(errors):.3g}"),
        "rms_rel_diff_mean": float(f"{np.mean(errors):.3g}"),
        "against": "torch fp32, layer by layer",
    }


def _identity(width: int) -> nn.Linear:
    """An output matrix that gives the hidden state itself."""
    head = nn.Linear(width, width, bias=False)
    head.weight = nn.Parameter(torch.eye(width), requires_grad=False)
    return head


def _but_head(check: Check, graph: DeferredModel) -> DeferredModel:
    """The graph quantised, its output matrix left as it is."""
    node = next(node for node in graph.model.graph.node if "lm_head" in node.input)
    node.op_type, node.domain = "Kept", "kept"
    result = check.quantize(graph)
    for node in result.model.graph.node:
        if node.op_type == "Kept":
            node.op_type, node.domain = "MatMul", ""
    return result


def _one_layer(
    check: Check, head: nn.Module, quantize: Callable[[DeferredModel], DeferredModel]
) -> DeferredModel:
    """The graph of the first layer and the norm behind it, as the bundle's is made."""
    config = copy.copy(check.parts.config)
    config.num_hidden_layers = 1
    parts = replace(check.parts, config=config, layers=check.parts.layers[:1], head=head, deepstack=0)
    with quiet(), torch.no_grad():
        return quantize(export_decoder(DecoderGraph(parts, check.lowering, ROWS, check.dtype)))


def _compare(
    folder: Path, graph: DeferredModel, tensors: dict[str, TensorProto], check: Check, index: int
) -> float:
    """Return the relative error of layer ``index``."""
    layered = graph.copy()
    for tensor in layered.model.graph.initializer:
        found = tensors.get(_name_at(tensor.name, index))
        if found is not None and list(found.dims) == list(tensor.dims):
            name = tensor.name
            tensor.CopyFrom(found)
            tensor.name = name
            layered.weights.pop(name, None)
    path = folder / _FILE
    try:
        onnx.save(layered.inline(), path)
        session = onnxruntime.InferenceSession(
            str(path), session_options(1), providers=["CPUExecutionProvider"]
        )
    finally:
        path.unlink(missing_ok=True)
    x, positions = _input(check.parts)
    inputs = {"inputs_embeds": x.numpy(), "position_ids": positions.numpy(), "write_index": np.array([0])}
    for value in session.get_inputs():
        if value.name not in inputs:
            kind = np.float16 if value.type == "tensor(float16)" else np.float32
            inputs[value.name] = np.zeros(value.shape, kind)
    ours = session.run(["logits"], inputs)[0][0].astype(np.float64)
    last = index == len(check.parts.layers) - 1
    expected = _expected(check, index, x, positions, check.parts.head if last else None)
    return float(np.sqrt(np.mean((ours - expected) ** 2) / np.mean(expected**2)))


def _name_at(name: str, index: int) -> str:
    """Name in the whole graph of an initializer of the graph of one layer; the norm behind it is the next's
    first.
    """
    if name.startswith("layers.0."):
        return name.replace("layers.0.", f"layers.{index}.", 1)
    if name in ("norms.0", "norms.1"):
        return f"norms.{index + int(name[-1])}"
    return name if name.startswith("lm_head") else ""


def _input(parts: DecoderParts) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, POSITIONS, parts.config.hidden_size, generator=generator)
    positions = torch.arange(POSITIONS).repeat(parts.axes, 1, 1)
    for axis in range(1, parts.axes):
        positions[axis] += axis * (torch.arange(POSITIONS) % 4)
    return x, positions


@torch.inference_mode()
def _expected(check: Check, index: int, x: Tensor, positions: Tensor, head: Any) -> NDArray[np.float64]:
    """What transformers makes of the last position: the hidden state behind the norm, or the logits."""
    decoder, parts = copy.copy(check.decoder), check.parts
    decoder._modules = dict(decoder._modules)
    decoder.config = copy.copy(decoder.config)
    decoder.config.num_hidden_layers = 1
    decoder.layers = nn.ModuleList([parts.layers[index]])
    last = index == len(parts.layers) - 1
    decoder.norm = parts.norm if last else parts.layers[index + 1].input_layernorm
    places = positions if parts.axes > 1 else positions[0]
    hidden = decoder(inputs_embeds=x, position_ids=places, use_cache=False).last_hidden_state[0, -1]
    if head is None:
        result: NDArray[np.float64] = hidden.double().numpy()
        return result
    rows = len(head.weight)
    logits = [
        nn.functional.linear(hidden, weight_rows(head, start, min(start + _HEAD_ROWS, rows)))
        for start in range(0, rows, _HEAD_ROWS)
    ]
    return torch.cat(logits).double().numpy()
