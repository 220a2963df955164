"""Weights stored in fp16, computed in fp32.

Each large fp32 initialiser becomes an fp16 one and a Cast. ONNX Runtime folds the Cast when it loads the
file: the graph runs at the speed and in the arithmetic of fp32, and the file takes half the room. The price
is rounding the weights to 11 significant bits.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MIN_ELEMENTS = 256
"""Smaller tensors stay as they are: constants of operators, biases of small layers."""
_FP16_MAX = float(np.finfo(np.float16).max)


def with_fp16_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its large fp32 initialisers in fp16; one with a value beyond fp16's range stays fp32."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    casts = []
    for tensor in result.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < MIN_ELEMENTS:
            continue
        values = numpy_helper.to_array(tensor)
        if not np.all(np.abs(values) <= _FP16_MAX):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.fp16"))
        casts.append(helper.make_node("Cast", [f"{name}.fp16"], [name], to=TensorProto.FLOAT))
    nodes = list(result.graph.node)
    del result.graph.node[:]
    result.graph.node.extend([*casts, *nodes])
    return result
