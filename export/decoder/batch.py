"""The decoder for several sessions in one call, made from the graph for one.

Rows of all sessions lie one after the other, [1, T, D]: every product reads its weights once for all of them.
Attention alone is per session: its rows are cut out, and a GroupQueryAttention of its own writes and reads
that session's cache. So sessions keep their caches, windows and evictions, and chunks may have any lengths.
Every number is the one that the graph for one session gives.

One GroupQueryAttention for all would be shorter, but ONNX Runtime's takes a batch only where each session
appends a single token ("batch_size must be 1 when sequence_length > 1 and past context is given", 1.32).

The graph has no weights of its own: it points into the file of the graph for one session.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from export.errors import ExportError

PLACES = 8
"""Sessions that one call can take. From 64 rows on products are bound by arithmetic: more gain little."""
BATCH_FILE = "decoder-batch.onnx"
_LARGE_BYTES = 1_024
_LOGIT_ROWS = "logit_rows"
"""A graph for one session may have it as well, and a default for it."""
_QUERY_INPUTS = 3
_PASTS = slice(3, 5)
_SEQLENS, _TOTAL, _POSITIONS = 5, 6, 9
"""Places among GroupQueryAttention's inputs."""


def write_batch_graph(folder: Path, decoder: str) -> dict[str, Any]:
    """Write :data:`BATCH_FILE` beside the bundle's graph ``decoder``; returns its entry in the manifest.

    Raises ExportError for a graph without GroupQueryAttention.
    """
    model = batch_graph(onnx.load(folder / decoder, load_external_data=False), PLACES)
    _point_into(model, folder / decoder)
    onnx.save(model, folder / BATCH_FILE)
    return {"file": BATCH_FILE, "places": PLACES}


def batch_graph(decoder: onnx.ModelProto, places: int) -> onnx.ModelProto:
    """``decoder`` for up to ``places`` sessions.

    In place of ``write_index`` [1] it takes ``write_index``, ``begin`` and ``end`` [places]: the first slot
    that each session's rows are written to, and where they lie among all rows; and ``logit_rows`` [n]: the
    rows whose logits [n, vocab] are wanted. Caches are ``past_k.LAYER.PLACE`` and so on. A place without a
    session is given row 0 and a cache to throw away. Raises ExportError for a graph without
    GroupQueryAttention.
    """
    model = onnx.ModelProto()
    model.CopyFrom(decoder)
    graph = model.graph
    if not any(node.op_type == "GroupQueryAttention" for node in graph.node):
        raise ExportError("a batch of sessions wants GroupQueryAttention: only the graphs of ort-cpu have it")
    inputs, outputs = list(graph.input), list(graph.output)
    nodes = list(graph.node)
    for field in (graph.input, graph.output, graph.node, graph.value_info):
        del field[:]
    graph.input.extend(_inputs(inputs, places))
    graph.output.extend(_outputs(outputs, places))
    for name, value in (("batch.axis", 1), ("batch.one", 1), ("batch.zero", 0)):
        graph.initializer.append(numpy_helper.from_array(np.array([value], np.int64), name))
    made = list(_places(places))
    chooses_rows = any(value.name == _LOGIT_ROWS for value in inputs)
    last_rows, head = (set(), "") if chooses_rows else (_last_rows(nodes), _before_head(nodes))
    for node in nodes:
        if node.op_type == "GroupQueryAttention":
            made += _attentions(node, places)
        elif node.output[0] in last_rows:
            made.append(helper.make_node("Gather", [node.input[0], _LOGIT_ROWS], list(node.output), axis=1))
        elif node.output[0] == head:
            made.append(helper.make_node("Squeeze", [node.input[0], "batch.zero"], list(node.output)))
        else:
            made.append(node)
    graph.node.extend(_needed(made, {value.name for value in graph.output}))
    read = {name for node in graph.node for name in node.input}
    stored = [tensor for tensor in graph.initializer if tensor.name in read - {_LOGIT_ROWS}]
    del graph.initializer[:]
    graph.initializer.extend(stored)
    return model


def _inputs(inputs: list[onnx.ValueInfoProto], places: int) -> Iterator[onnx.ValueInfoProto]:
    for value in inputs:
        if value.name.startswith("past_"):
            yield from _for_each(value, places)
        elif value.name == "write_index":
            for name in ("write_index", "begin", "end"):
                yield helper.make_tensor_value_info(name, TensorProto.INT64, [places])
            yield helper.make_tensor_value_info(_LOGIT_ROWS, TensorProto.INT64, ["N"])
        elif value.name != _LOGIT_ROWS:
            yield value


def _outputs(outputs: list[onnx.ValueInfoProto], places: int) -> Iterator[onnx.ValueInfoProto]:
    for value in outputs:
        if value.name.startswith("present_"):
            yield from _for_each(value, places)
        else:
            value.type.tensor_type.shape.dim[0].dim_param = "N"
            yield value


def _for_each(value: onnx.ValueInfoProto, places: int) -> Iterator[onnx.ValueInfoProto]:
    for place in range(places):
        one = onnx.ValueInfoProto()
        one.CopyFrom(value)
        one.name = f"{value.name}.{place}"
        yield one


def _places(places: int) -> Iterator[NodeProto]:
    """What all layers share: begin, end, positions and rows in use of every place."""

    def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        return helper.make_node(kind, inputs, [output], **attributes)

    for name in ("write_index", "begin", "end"):
        parts = [f"batch.{name}.{place}" for place in range(places)]
        yield helper.make_node("Split", [name], parts, axis=0, num_outputs=places)
    yield node("Shape", ["inputs_embeds"], "batch.rows", start=1, end=2)
    yield node("Squeeze", ["position_ids", "batch.axis"], "batch.positions")  # [axes, T]
    for place in range(places):
        begin, end = f"batch.begin.{place}", f"batch.end.{place}"
        yield node("Sub", [end, begin], f"batch.length.{place}")
        yield node("Add", [f"batch.write_index.{place}", f"batch.length.{place}"], f"batch.used.{place}")
        yield node("Sub", [f"batch.used.{place}", "batch.one"], f"batch.before.{place}")
        yield node("Cast", [f"batch.before.{place}"], f"batch.seqlens.{place}", to=TensorProto.INT32)
        yield node("Squeeze", [f"batch.used.{place}"], f"batch.scalar.{place}")
        yield node("Cast", [f"batch.scalar.{place}"], f"batch.total.{place}", to=TensorProto.INT32)
        yield _cut("batch.positions", f"batch.positions.{place}", place)


def _cut(rows: str, output: str, place: int) -> NodeProto:
    """The rows of one place."""
    between = [f"batch.begin.{place}", f"batch.end.{place}"]
    return helper.make_node("Slice", [rows, *between, "batch.axis"], [output])


def _attentions(node: NodeProto, places: int) -> Iterator[NodeProto]:
    """One attention for each place, and their outputs one after the other."""
    attended, presents = node.output[0], node.output[1:3]
    attributes = {one.name: helper.get_attribute_value(one) for one in node.attribute}
    for place in range(places):
        inputs = list(node.input)
        for i, name in enumerate(inputs[:_QUERY_INPUTS]):
            if name:
                inputs[i] = f"{name}.place.{place}"
                yield _cut(name, inputs[i], place)
        inputs[_PASTS] = [f"{name}.{place}" for name in inputs[_PASTS]]
        inputs[_SEQLENS], inputs[_TOTAL] = f"batch.seqlens.{place}", f"batch.total.{place}"
        if len(inputs) > _POSITIONS and inputs[_POSITIONS]:
            inputs[_POSITIONS] = f"batch.positions.{place}"
        written = [f"{name}.{place}" for name in presents]
        yield helper.make_node(
            node.op_type, inputs, [f"{attended}.place.{place}", *written], domain=node.domain, **attributes
        )
    parts = [f"{attended}.place.{place}" for place in range(places)]
    yield helper.make_node("Concat", parts, [f"{attended}.places"], axis=1)
    # Places without a session come last: what they attended to is thrown away.
    kept = [f"{attended}.places", "batch.zero", "batch.rows", "batch.axis"]
    yield helper.make_node("Slice", kept, [attended])


def _last_rows(nodes: list[NodeProto]) -> set[str]:
    """Outputs of the two nodes behind the last attention that go on with the last row alone."""
    attention = max(i for i, node in enumerate(nodes) if node.op_type == "GroupQueryAttention")
    attended = nodes[attention].output[0]
    found = [node for node in nodes[attention:] if node.op_type == "Slice"]
    if len(found) != 2 or attended not in {node.input[0] for node in found}:
        raise ExportError("a batch of sessions: the decoder does not go on with its last row as expected")
    return {node.output[0] for node in found}


def _before_head(nodes: list[NodeProto]) -> str:
    """Output of the node in front of the output matrix that makes [1, D] of [1, 1, D]."""
    made = {output: node for node in nodes for output in node.output}
    node = made["logits"]
    while node.op_type != "Gather":
        node = made[node.input[0]]
    return str(node.output[0])


def _needed(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Without those whose results are never read."""
    read, kept = set(outputs), []
    for node in reversed(nodes):
        if read & set(node.output):
            kept.append(node)
            read |= set(node.input)
    return kept[::-1]


def _point_into(model: onnx.ModelProto, path: Path) -> None:
    """Let large tensors lie where they are in the file ``path``; others stay in the graph."""
    after = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for tensor in model.graph.initializer:
            if tensor.data_location == TensorProto.EXTERNAL or len(tensor.raw_data) < _LARGE_BYTES:
                continue
            place = data.find(tensor.raw_data, after)  # they lie there in this order
            assert place >= 0, f"{tensor.name} is not in {path}"
            after = place + len(tensor.raw_data)
            onnx.external_data_helper.set_external_data(
                tensor, location=path.name, offset=place, length=len(tensor.raw_data)
            )
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
