"""Weights stored in fp16, computed in fp32.

Each large fp32 initialiser becomes an fp16 one and a Cast. ONNX Runtime folds the Cast when it loads the
file: the graph runs at the speed and in the arithmetic of fp32, and the file takes half the room. The price
is rounding the weights to 11 significant bits.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.decoder.deferred import DeferredModel, Made

MIN_ELEMENTS = 256
"""Smaller tensors stay as they are: constants of operators, biases of small layers."""
_FP16_MAX = float(np.finfo(np.float16).max)


def with_fp16_weights(graph: DeferredModel) -> DeferredModel:
    """The model with its large fp32 initialisers in fp16; one with a value beyond fp16's range stays fp32."""
    result = graph.copy()
    casts = []
    for tensor in list(result.model.graph.initializer):
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < MIN_ELEMENTS:
            continue
        if not np.all(np.abs(graph.array(tensor)) <= _FP16_MAX):
            continue
        name = tensor.name
        result.remove(tensor)
        result.add(f"{name}.fp16", TensorProto.FLOAT16, tensor.dims, Made(partial(_half, graph, tensor)))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    nodes = list(result.model.graph.node)
    del result.model.graph.node[:]
    result.model.graph.node.extend([*casts, *nodes])
    return result


def _half(graph: DeferredModel, tensor: TensorProto) -> NDArray[np.float16]:
    return graph.array(tensor).astype(np.float16)
