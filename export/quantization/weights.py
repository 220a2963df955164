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

from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from export.decoder.packed import BITS, PackedMatrix
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
_CONTRIB = "com.microsoft"


def quantize_for_ort(
    model: onnx.ModelProto,
    precision: str,
    block_size: int,
    packed: Mapping[str, PackedMatrix] | None = None,
) -> onnx.ModelProto:
    """Every product with a constant matrix becomes ``MatMulNBits``; ``precision``: int8, int4 (symmetric).

    ``block_size``: one of BLOCK_SIZES, inputs that share a scale. ``packed``: matrices in 4 bits by the name
    of their weight, taken as they are. ``model`` is changed.
    """
    # Here, because the import configures the root logger: the caller wraps this in quiet().
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    if packed:
        _replace(model.graph, packed)
    quantizer = MatMulNBitsQuantizer(
        model,
        bits=_BITS[precision],
        block_size=block_size,
        is_symmetric=True,
        accuracy_level=ACCURACY_LEVEL,
    )
    quantizer.process()
    result: onnx.ModelProto = quantizer.model.model
    if packed and all(entry.domain != _CONTRIB for entry in result.opset_import):
        result.opset_import.append(helper.make_opsetid(_CONTRIB, 1))
    return result


def _replace(graph: onnx.GraphProto, packed: Mapping[str, PackedMatrix]) -> None:
    """Put ``MatMulNBits`` in place of each product with a weight that is packed.

    Raises ExportError when a matrix is not as large as its weight, or belongs to no product.
    """
    weights = {tensor.name: tensor for tensor in graph.initializer if tensor.name in packed}
    left = dict(packed)
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in left:
            continue
        name = node.input[1]
        matrix, weight = left.pop(name), weights[name]
        outputs, inputs = matrix.shape
        if tuple(weight.dims) != (inputs, outputs):
            raise ExportError(f"{name} is {tuple(weight.dims)}, its quantized form {(inputs, outputs)}")
        kind = helper.tensor_dtype_to_np_dtype(weight.data_type)
        tensors = {"Q4": matrix.codes, "scales": matrix.scales.astype(kind), "zeros": matrix.packed_zeros()}
        given = {f"{name}.{key}": value for key, value in tensors.items() if value is not None}
        graph.initializer.extend(numpy_helper.from_array(value, key) for key, value in given.items())
        graph.initializer.remove(weight)
        node.op_type, node.domain = "MatMulNBits", _CONTRIB
        node.input[1:] = list(given)
        sizes = {"K": inputs, "N": outputs, "bits": BITS, "block_size": matrix.block}
        for key, size in (sizes | {"accuracy_level": ACCURACY_LEVEL}).items():
            node.attribute.append(helper.make_attribute(key, size))
    if left:
        raise ExportError(f"the graph has no product with {next(iter(left))}")


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
