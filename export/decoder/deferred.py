"""ONNX models without their large weights: each is made when it is written, one at a time.

A graph is traced and rewritten with names and shapes alone. Where a weight comes from (a tensor in memory, a
safetensors file, a matrix that is rounded first) is known to its entry in :attr:`DeferredModel.weights`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import onnx
import onnx_ir
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from train.models.stored import stored_of, weight_rows

_BLOCK_ELEMENTS = 1 << 24
"""Of a matrix that are in memory at a time while it is transposed or rounded: 64 MB in fp32."""
_PLACE = "not written yet"


class Weight(Protocol):
    """A tensor that is made when it is asked for."""

    def array(self) -> NDArray[Any]:
        """Make it."""


class Columns(Weight, Protocol):
    """A matrix [in, out] that can also be made in parts."""

    def blocks(self) -> Iterator[NDArray[Any]]:
        """Yield its columns, left to right, some at a time."""


@dataclass(frozen=True)
class InMemory:
    """A tensor that is there already. See :class:`Columns`."""

    value: NDArray[Any]

    def array(self) -> NDArray[Any]:
        return self.value

    def blocks(self) -> Iterator[NDArray[Any]]:
        yield self.value


@dataclass(frozen=True)
class Matrix:
    """Weights of modules over one input, one below the other, transposed: [in, out]. See :class:`Columns`."""

    modules: Sequence[nn.Module]
    dtype: torch.dtype

    def blocks(self) -> Iterator[NDArray[Any]]:
        for module in self.modules:
            weight: Any = module.weight
            rows, width = weight.shape
            step = max(_BLOCK_ELEMENTS // width, 1)
            for start in range(0, rows, step):
                part = weight_rows(module, start, min(start + step, rows))
                yield np.ascontiguousarray(part.to(self.dtype).T.numpy())

    def array(self) -> NDArray[Any]:
        shapes: list[Any] = [module.weight.shape for module in self.modules]
        out = torch.empty(shapes[0][1], sum(shape[0] for shape in shapes), dtype=self.dtype).numpy()
        place = 0
        for block in self.blocks():
            out[:, place : place + block.shape[1]] = block
            place += block.shape[1]
        return out


@dataclass(frozen=True)
class Plain:
    """The weight of a module as it is, in the module's type. See :class:`Weight`."""

    module: nn.Module

    def array(self) -> NDArray[Any]:
        weight: Any = self.module.weight
        return weight_rows(self.module, 0, len(weight)).to(weight.dtype).numpy()


@dataclass(frozen=True)
class Made:
    """What ``make`` gives. See :class:`Weight`."""

    make: Callable[[], NDArray[Any]]

    def array(self) -> NDArray[Any]:
        return self.make()


class Pair:
    """Two tensors that are made together, such as codes and scales, and asked for one after the other."""

    def __init__(self, make: Callable[[], tuple[NDArray[Any], NDArray[Any]]]) -> None:
        self._make = make
        self._waiting: dict[int, NDArray[Any]] = {}

    def part(self, index: int) -> Made:
        """Return the tensor with this index, 0 or 1."""
        return Made(lambda: self._get(index))

    def _get(self, index: int) -> NDArray[Any]:
        if index not in self._waiting:
            self._waiting = dict(enumerate(self._make()))
        return self._waiting.pop(index)


@dataclass
class DeferredModel:
    """``model``: of initializers in ``weights`` it has name, type and shape alone."""

    model: onnx.ModelProto
    weights: dict[str, Weight] = field(default_factory=dict)

    def copy(self) -> DeferredModel:
        """Return one that can be changed."""
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        return DeferredModel(model, dict(self.weights))

    def columns(self, tensor: TensorProto) -> Columns:
        """Return an initializer of two dimensions as a matrix."""
        weight: Any = self.weights.get(tensor.name)
        if weight is None:
            return InMemory(numpy_helper.to_array(tensor))
        return weight if hasattr(weight, "blocks") else InMemory(weight.array())

    def array(self, tensor: TensorProto) -> NDArray[Any]:
        """Return an initializer's value."""
        weight = self.weights.get(tensor.name)
        return numpy_helper.to_array(tensor) if weight is None else weight.array()

    def add(self, name: str, kind: int, shape: Sequence[int], weight: Weight) -> None:
        """Add an initializer of the ONNX type ``kind`` that ``weight`` makes."""
        self.model.graph.initializer.append(_placeholder(name, kind, shape))
        self.weights[name] = weight

    def remove(self, tensor: TensorProto) -> None:
        """Remove an initializer."""
        self.weights.pop(tensor.name, None)
        self.model.graph.initializer.remove(tensor)

    def nbytes(self) -> int:
        """Return the size of the model with its weights."""
        deferred = (tensor for tensor in self.model.graph.initializer if tensor.name in self.weights)
        return self.model.ByteSize() + sum(_nbytes(tensor) for tensor in deferred)

    def inline(self) -> onnx.ModelProto:
        """Return a whole model, all weights in it."""
        whole = self.copy()
        for tensor in whole.model.graph.initializer:
            if tensor.name in self.weights:
                tensor.CopyFrom(numpy_helper.from_array(self.weights[tensor.name].array(), tensor.name))
        return whole.model


def _placeholder(name: str, kind: int, shape: Sequence[int]) -> TensorProto:
    tensor = TensorProto(name=name, data_type=kind, dims=shape, data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=_PLACE)
    return tensor


def _nbytes(tensor: TensorProto) -> int:
    half = tensor.data_type in (TensorProto.INT4, TensorProto.UINT4)
    bits = 4 if half else 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    return math.prod(tensor.dims) * bits // 8


def trace(
    module: nn.Module, inputs: tuple[Any, ...], weights: Mapping[str, Weight], **options: Any
) -> DeferredModel:
    """Make the ONNX model of ``module`` with PyTorch's exporter.

    ``weights``: of parameters, by their names; these may lie on the meta device, and are replaced by tensors
    of their shape that take no memory. ``options``: as of :func:`torch.onnx.export`.
    """
    _stand_in(module)
    program = torch.onnx.export(module.eval(), inputs, dynamo=True, optimize=False, verbose=False, **options)
    assert program is not None
    initializers = program.model.graph.initializers
    for name, value in initializers.items():
        if name in weights:
            value.const_value = _lazy(name, value.const_value, weights[name])
    program.optimize()  # it looks into small weights alone, and a constant that it makes of one is exact
    deferred = {
        name: value.const_value
        for name, value in initializers.items()
        if name in weights and isinstance(value.const_value, onnx_ir.LazyTensor)
    }
    for name, tensor in deferred.items():
        initializers[name].const_value = onnx_ir.ExternalTensor(
            _PLACE, None, None, tensor.dtype, shape=tensor.shape, name=name
        )
    return DeferredModel(onnx_ir.to_proto(program.model), {name: weights[name] for name in deferred})


def _stand_in(module: nn.Module) -> None:
    """Let parameters on the meta device be of the CPU, where the others are: one number for all elements."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            if parameter.is_meta:
                one = torch.zeros((), dtype=parameter.dtype).expand(parameter.shape)
                setattr(part, name, nn.Parameter(one, requires_grad=False))


def _lazy(name: str, traced: Any, weight: Weight) -> onnx_ir.LazyTensor:
    return onnx_ir.LazyTensor(lambda: onnx_ir.tensor(weight.array()), traced.dtype, traced.shape, name=name)


def stored_weights(module: nn.Module) -> dict[str, Weight]:
    """Return the weights of ``module`` that are not in memory, by their names."""
    return {
        f"{path}.weight": Plain(part) for path, part in module.named_modules() if stored_of(part) is not None
    }
