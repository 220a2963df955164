"""Weight-only quantisation of a decoder graph: activations keep their type, weights take less room.

For ONNX Runtime, ``MatMulNBits`` in blocks of 32 along the input dimension: int8 takes 1.125 bytes a weight,
not 4, and on a CPU is faster than fp32. Activations are rounded in the same blocks: larger ones are faster
and coarser (SmolLM2-135M, 64: a chunk in 0.8 to 0.97 times the time, KL 0.009 against 0.005). Four bits are
no default: rounding to nearest costs a small decoder far more (KL 0.30 against 0.004 for SmolLM2-135M) and on
a CPU saves no time on a chunk of a dozen positions.

For TensorRT, which has no MatMulNBits, the weights themselves are stored in few bits and a standard
``DequantizeLinear`` stands in front of each product: TensorRT fuses the two. int8 and fp8 have one scale for
each output channel, int4 one for each block of inputs.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.errors import ExportError

BLOCK_SIZES = (32, 64, 128)
"""Of MatMulNBits, the finest first."""
ACCURACY_LEVEL = 4
"""4: activations are rounded to int8 per block too, for the processor's int8 dot products. Below it the
weights are unpacked to fp32 on every call: 4 to 15 times slower for nano, and no closer to fp32."""
_INT4_BLOCKS = (128, 64)
"""Block sizes TensorRT takes for int4, the cheaper first."""
_FP8_MAX = 448.0
_HALF_SCALES = 19
"""Opset from which scales may be fp16; before it they are fp32, and a Cast follows."""

_BITS = {"int8": 8, "int4": 4}


def quantize_for_ort(model: onnx.ModelProto, precision: str, block_size: int) -> onnx.ModelProto:
    """Every product with a constant matrix becomes ``MatMulNBits`` (symmetric); ``precision``: int8, int4.

    ``block_size``: one of BLOCK_SIZES, inputs that share a scale. ``model`` is changed.
    """
    # Here, because the import configures the root logger: the caller wraps this in quiet().
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model,
        bits=_BITS[precision],
        block_size=block_size,
        is_symmetric=True,
        accuracy_level=ACCURACY_LEVEL,
    )
    quantizer.process()
    return quantizer.model.model


def quantize_for_tensorrt(model: onnx.ModelProto, precision: str) -> onnx.ModelProto:
    """Every constant matrix of a product is stored in ``precision`` (int8, int4 or fp8).

    Raises ExportError when a matrix's inputs do not divide into blocks.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in result.graph.initializer}
    nodes = []
    for node in result.graph.node:
        tensor = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is not None and len(tensor.dims) == 2:
            nodes += _dequantizer(result, tensor, precision)
            node.input[1] = nodes[-1].output[0]
            result.graph.initializer.remove(tensor)
            del weights[tensor.name]
        nodes.append(node)
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    return result


def _dequantizer(model: onnx.ModelProto, tensor: TensorProto, precision: str) -> list[onnx.NodeProto]:
    """Adds the quantised matrix and its scales to the graph; returns the nodes that give the matrix back."""
    weight = numpy_helper.to_array(tensor).astype(np.float32)  # [in, out]
    attributes: dict[str, Any] = {"axis": 1}
    if precision == "int4":
        block = next((size for size in _INT4_BLOCKS if weight.shape[0] % size == 0), None)
        if block is None:
            raise ExportError(
                f"int4 for TensorRT wants inputs in blocks of {' or '.join(map(str, _INT4_BLOCKS))}; "
                f"{tensor.name} has {weight.shape[0]}; choose int8"
            )
        attributes = {"axis": 0, "block_size": block}
        scale = _scale(weight.reshape(-1, block, weight.shape[1]), 7.0)  # [in / block, out]
        codes = np.rint(weight / np.repeat(scale, block, axis=0)).astype(ml_dtypes.int4)
    elif precision == "int8":
        scale = _scale(weight[None], 127.0)[0]  # [out]
        codes = np.rint(weight / scale).astype(np.int8)
    else:
        scale = _scale(weight[None], _FP8_MAX)[0]
        codes = (weight / scale).astype(ml_dtypes.float8_e4m3fn)
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    opset = next(entry.version for entry in model.opset_import if entry.domain == "")
    narrow = kind == np.float16 and opset < _HALF_SCALES
    stored, scales, output = (f"{tensor.name}.{what}" for what in (precision, "scale", "dequantized"))
    model.graph.initializer.append(numpy_helper.from_array(codes, stored))
    scale = scale.astype(np.float32 if narrow else kind)
    model.graph.initializer.append(numpy_helper.from_array(scale, scales))
    name = f"dequantize.{tensor.name}"
    node = helper.make_node("DequantizeLinear", [stored, scales], [output], name=name, **attributes)
    if not narrow:
        return [node]
    node.output[0] += ".wide"
    cast = helper.make_node("Cast", list(node.output), [output], name=f"{name}.cast", to=tensor.data_type)
    return [node, cast]


def _scale(blocks: NDArray[np.float32], largest: float) -> NDArray[np.float32]:
    """``blocks`` [n, size, out] -> [n, out]; rounded as it will be stored, so that codes fit it."""
    scale = np.abs(blocks).max(axis=1) / largest
    return np.maximum(scale, 1e-6).astype(np.float16).astype(np.float32)
