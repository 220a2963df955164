"""Keys and values in int8: a quarter of the cache's memory, and of what decoding reads of it.

GroupQueryAttention writes and reads such a cache itself, with one scale for each channel of each head. Scales
are fixed when the bundle is made: the largest keys and values of a stream through the bundle's own decoder,
with its cache still in fp32. Keys lie there rotated, and rotate again in evictions, so the two channels of a
rotated pair have one scale, by which the pair's length fits at any angle.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edge_runtime.engine.decoder import CachedDecoder
from edge_runtime.engine.model import Model
from edge_runtime.kv_cache.rope import to_pairs
from export.errors import ExportError
from export.validation.parity_stream import story_stream

CALIBRATION_STEPS = 64
SEED = 1
"""Another stream than the one parity is measured on."""
_MARGIN = 1.1
"""Larger keys and values than those of the calibration stream are cut off."""
_SCALES = 12
"""Place of the scales among GroupQueryAttention's inputs."""


class _WatchedModel(Model):
    """Keeps hold of the session's decoder."""

    decoder: CachedDecoder

    @property
    def queries_per_session(self) -> int | None:
        return None  # a question per story, one after another, on one session

    def open_decoder(self) -> CachedDecoder:
        self.decoder = super().open_decoder()
        return self.decoder


def cache_scales(folder: Path) -> NDArray[np.float32]:
    """Scales [L, 2, Hkv, 1, Dh] of the bundle in ``folder``, whose cache is in fp32.

    From generated stories, in which every fourth timestep speaks.
    """
    model = _WatchedModel(folder, threads=1)
    largest = np.zeros(0, np.float32)
    source = story_stream(model.stream_format.fps, SEED)
    with model.session() as session:
        for index, step in enumerate(itertools.islice(source, CALIBRATION_STEPS)):
            if step.query is not None:
                for query in list(session.queries):
                    session.remove(query)
                session.ask(step.query)
            session.threshold = 0.0 if index % 4 == 3 else model.stream_format.threshold
            session.push(step.frame, (index + 1) / model.stream_format.fps)
            if index % 8 == 7 or index == 0:
                found = _largest(*model.decoder.cached_slots(session.slots))
                largest = np.maximum(largest, found) if largest.size else found
    return np.maximum(largest * _MARGIN / 127, 1e-6).astype(np.float32)


def _largest(keys: NDArray[np.floating], values: NDArray[np.floating]) -> NDArray[np.float32]:
    """Of [L, Hkv, rows, Dh] each -> [L, 2, Hkv, 1, Dh]."""
    lengths = np.abs(to_pairs(keys.astype(np.float32))).max(axis=2, keepdims=True)
    largest = np.abs(values).max(axis=2, keepdims=True)
    return np.stack([np.concatenate([lengths, lengths], axis=-1), largest], axis=1)


def quantize_cache(model: onnx.ModelProto) -> None:
    """Let every GroupQueryAttention keep int8; the graph gets inputs ``scale_k.i``, ``scale_v.i`` beside its
    caches. Raises ExportError for a graph without them.
    """
    graph = model.graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in graph.input
    }
    attentions = [node for node in graph.node if node.op_type == "GroupQueryAttention"]
    if not attentions:
        raise ExportError("a cache in int8 wants GroupQueryAttention: only the graphs of ort-cpu have it")
    for node in attentions:
        node.input.extend([""] * (_SCALES - len(node.input)))
        for letter, past in zip("kv", node.input[3:5], strict=True):
            _, heads, _, width = shapes[past]
            scale = past.replace("past_", "scale_")
            graph.input.append(helper.make_tensor_value_info(scale, TensorProto.FLOAT, [1, heads, 1, width]))
            node.input.append(scale)
            node.attribute.append(helper.make_attribute(f"{letter}_quant_type", "PER_CHANNEL"))
        node.attribute.append(helper.make_attribute("kv_cache_bit_width", 8))
    for value in [*graph.input, *graph.output, *graph.value_info]:
        if value.name.startswith(("past_", "present_")):
            value.type.tensor_type.elem_type = TensorProto.INT8
