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

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from export.decoder.deferred import Columns, DeferredModel, InMemory, Pair
from export.decoder.packed import BITS, PackedMatrix
from export.errors import ExportError
from export.quiet import quiet

BLOCK_SIZES = (32, 64, 128)
"""Of MatMulNBits, the finest first."""
ACCURACY_LEVEL = 4
"""4: activations are rounded to int8 per block too, for the processor's int8 dot products. Below it the
weights are unpacked to fp32 on every call: 4 to 15 times slower for nano, and no closer to fp32."""
_INT4_BLOCKS = (128, 64)
"""Block sizes TensorRT takes for int4, the cheaper first."""
_LARGEST = {"int4": 7.0, "int8": 127.0, "fp8": 448.0}
_TYPES: dict[str, Any] = {"int4": ml_dtypes.int4, "int8": np.int8, "fp8": ml_dtypes.float8_e4m3fn}
_STORED = {"int4": TensorProto.INT4, "int8": TensorProto.INT8, "fp8": TensorProto.FLOAT8E4M3FN}
_HALF_SCALES = 19
"""Opset from which scales may be fp16; before it they are fp32, and a Cast follows."""

_BITS = {"int8": 8, "int4": 4}
_ORT_DOMAIN = "com.microsoft"


def quantize_for_ort(
    graph: DeferredModel,
    precision: str,
    block_size: int,
    packed: Mapping[str, PackedMatrix] | None = None,
) -> DeferredModel:
    """Every product with a constant matrix becomes ``MatMulNBits`` (symmetric); ``precision``: int8, int4.

    ``block_size``: one of BLOCK_SIZES, inputs that share a scale. ``packed``: matrices in 4 bits by the name
    of their weight, taken as they are. Others are rounded when they are written.

    Raises ExportError when a packed matrix is not as large as its weight, or belongs to no product.
    """
    result = graph.copy()
    bits = _BITS[precision]
    weights = {tensor.name: tensor for tensor in result.model.graph.initializer}
    left = set(packed or ())
    for node in result.model.graph.node:
        tensor = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is None or len(tensor.dims) != 2:
            continue
        rows, columns = tensor.dims
        if packed is not None and tensor.name in packed:
            left.discard(tensor.name)
            names = _add_packed(result, tensor, packed[tensor.name])
            sizes = {"bits": BITS, "block_size": packed[tensor.name].block}
        else:
            names = _add_rounded(result, graph.columns(tensor), tensor, bits, block_size)
            sizes = {"bits": bits, "block_size": block_size}
        node.op_type, node.domain = "MatMulNBits", _ORT_DOMAIN
        node.name = f"{node.name}_Q{sizes['bits']}" if node.name else ""
        node.input[1:] = names
        for name, value in ({"K": rows, "N": columns} | sizes | {"accuracy_level": ACCURACY_LEVEL}).items():
            node.attribute.append(helper.make_attribute(name, value))
    if left:
        raise ExportError(f"the graph has no product with {min(left)}")
    _drop_unread(result, weights.values())
    if all(entry.domain != _ORT_DOMAIN for entry in result.model.opset_import):
        result.model.opset_import.append(helper.make_opsetid(_ORT_DOMAIN, 1))
    return result


def _add_rounded(
    graph: DeferredModel, matrix: Columns, tensor: TensorProto, bits: int, block_size: int
) -> list[str]:
    """Codes and scales in place of a matrix; returns their names."""
    rows, columns = tensor.dims
    blocks = -(-rows // block_size)
    names = [f"{tensor.name}_Q{bits}", f"{tensor.name}_scales"]
    if names[0] not in graph.weights:
        rounded = Pair(partial(_blocks_for_ort, matrix, bits, block_size))
        shape = [columns, blocks, block_size * bits // 8]
        graph.add(names[0], TensorProto.UINT8, shape, rounded.part(0))
        graph.add(names[1], tensor.data_type, [columns, blocks], rounded.part(1))
    return names


def _add_packed(graph: DeferredModel, tensor: TensorProto, matrix: PackedMatrix) -> list[str]:
    """Codes, scales and zero points as they are in place of a matrix; returns their names."""
    outputs, inputs = matrix.shape
    if tuple(tensor.dims) != (inputs, outputs):
        raise ExportError(f"{tensor.name} is {tuple(tensor.dims)}, its quantized form {(inputs, outputs)}")
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    parts = {"Q4": matrix.codes, "scales": matrix.scales.astype(kind), "zeros": matrix.packed_zeros()}
    given = {f"{tensor.name}.{part}": value for part, value in parts.items() if value is not None}
    for name, value in given.items():
        if name not in graph.weights:
            graph.add(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape, InMemory(value))
    return list(given)


def _blocks_for_ort(
    matrix: Columns, bits: int, block_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.floating]]:
    """Codes [out, blocks, bytes] and scales [out, blocks] of a matrix, by ONNX Runtime's kernels."""
    with quiet():  # the import configures the root logger
        from onnxruntime.quantization.matmul_nbits_quantizer import (
            DefaultWeightOnlyQuantConfig,
            DefaultWeightOnlyQuantizer,
        )
    config = DefaultWeightOnlyQuantConfig(block_size=block_size, is_symmetric=True, bits=bits)
    quantizer = DefaultWeightOnlyQuantizer(config)
    parts = [quantizer.qbits_block_quant(block)[:2] for block in matrix.blocks()]
    codes, scales = zip(*parts, strict=True)
    return np.concatenate(codes), np.concatenate(scales)


def _drop_unread(graph: DeferredModel, tensors: Iterable[TensorProto]) -> None:
    """Remove those of ``tensors`` that no node reads any more."""
    read = {name for node in graph.model.graph.node for name in node.input}
    for tensor in tensors:
        if tensor.name not in read:
            graph.remove(tensor)


def quantize_for_tensorrt(graph: DeferredModel, precision: str) -> DeferredModel:
    """Every constant matrix of a product is stored in ``precision`` (int8, int4 or fp8), rounded when it is
    written.

    Raises ExportError when a matrix's inputs do not divide into blocks.
    """
    result = graph.copy()
    weights = {tensor.name: tensor for tensor in result.model.graph.initializer}
    nodes = []
    for node in result.model.graph.node:
        tensor = weights.get(node.input[1]) if node.op_type == "MatMul" else None
        if tensor is not None and len(tensor.dims) == 2:
            nodes += _dequantizer(result, tensor, precision)
            node.input[1] = nodes[-1].output[0]
            del weights[tensor.name]
            result.remove(tensor)
        nodes.append(node)
    del result.model.graph.node[:]
    result.model.graph.node.extend(nodes)
    return result


def _dequantizer(graph: DeferredModel, tensor: TensorProto, precision: str) -> list[onnx.NodeProto]:
    """Adds the quantised matrix and its scales to the graph; returns the nodes that give the matrix back."""
    rows, columns = tensor.dims  # [in, out]
    attributes: dict[str, Any] = {"axis": 1}
    block, shape = rows, [columns]
    if precision == "int4":
        found = next((size for size in _INT4_BLOCKS if rows % size == 0), None)
        if found is None:
            raise ExportError(
                f"int4 for TensorRT wants inputs in blocks of {' or '.join(map(str, _INT4_BLOCKS))}; "
                f"{tensor.name} has {rows}; choose int8"
            )
        block, shape = found, [rows // found, columns]
        attributes = {"axis": 0, "block_size": block}
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    opset = next(entry.version for entry in graph.model.opset_import if entry.domain == "")
    narrow = kind == np.float16 and opset < _HALF_SCALES
    stored, scales, output = (f"{tensor.name}.{what}" for what in (precision, "scale", "dequantized"))
    scale_kind = TensorProto.FLOAT if narrow else tensor.data_type
    scale_type = helper.tensor_dtype_to_np_dtype(scale_kind)
    rounded = Pair(
        partial(_codes_for_tensorrt, graph.columns(tensor), precision, block, len(shape) == 2, scale_type)
    )
    graph.add(stored, _STORED[precision], tensor.dims, rounded.part(0))
    graph.add(scales, scale_kind, shape, rounded.part(1))
    name = f"dequantize.{tensor.name}"
    node = helper.make_node("DequantizeLinear", [stored, scales], [output], name=name, **attributes)
    if not narrow:
        return [node]
    node.output[0] += ".wide"
    cast = helper.make_node("Cast", list(node.output), [output], name=f"{name}.cast", to=tensor.data_type)
    return [node, cast]


def _codes_for_tensorrt(
    matrix: Columns, precision: str, block: int, blocked: bool, scale_type: Any
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Codes [in, out], and scales [in / block, out], or [out] when not ``blocked``."""
    codes, scales = [], []
    for part in matrix.blocks():
        weight = part.astype(np.float32)
        scale = _scale(weight.reshape(-1, block, weight.shape[1]), _LARGEST[precision])  # [in / block, n]
        ratio = (weight.reshape(-1, block, weight.shape[1]) / scale[:, None]).reshape(weight.shape)
        codes.append((ratio if precision == "fp8" else np.rint(ratio)).astype(_TYPES[precision]))
        scales.append((scale if blocked else scale[0]).astype(scale_type))
    return np.concatenate(codes, axis=1), np.concatenate(scales, axis=-1)


def _scale(blocks: NDArray[np.float32], largest: float) -> NDArray[np.float32]:
    """``blocks`` [n, size, out] -> [n, out]; rounded as it will be stored, so that codes fit it."""
    scale = np.abs(blocks).max(axis=1) / largest
    return np.maximum(scale, 1e-6).astype(np.float16).astype(np.float32)
