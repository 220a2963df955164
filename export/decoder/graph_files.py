"""Graphs on disk: small ones in one file each, several flavours of one decoder over one file of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from export.decoder.deferred import DeferredModel

_LARGE_BYTES = 1_024
_INLINE_LIMIT = 1 << 29
"""Bytes of a model that is one file. A protobuf file ends at 2 GB and is in memory whole when it is read."""


def save_graphs(models: Mapping[str, DeferredModel], folder: Path, weights: str) -> None:
    """Write each model under its file name. Tensors go to the file ``weights`` beside them when there is more
    than one model, equal ones only once, or when a model is large. They are made one at a time.
    """
    if len(models) == 1 and all(model.nbytes() < _INLINE_LIMIT for model in models.values()):
        for name, model in models.items():
            onnx.save(model.inline(), folder / name)
        return
    places: dict[bytes, int] = {}
    with (folder / weights).open("wb") as file:
        for name, model in models.items():
            outside = model.copy().model
            for tensor in outside.graph.initializer:
                weight = model.weights.get(tensor.name)
                data = tensor.raw_data if weight is None else as_bytes(weight.array())
                if len(data) < _LARGE_BYTES:
                    if weight is not None:
                        tensor.raw_data = bytes(data)
                        tensor.ClearField("external_data")
                        tensor.ClearField("data_location")
                    continue
                digest = hashlib.sha256(data).digest()
                if digest not in places:
                    file.write(b"\0" * (-file.tell() % 4096))  # aligned, so that readers may map it
                    places[digest] = file.tell()
                    file.write(data)
                tensor.ClearField("raw_data")
                tensor.ClearField("external_data")
                entries = {"location": weights, "offset": places[digest], "length": len(data)}
                for key, value in entries.items():
                    tensor.external_data.add(key=key, value=str(value))
                tensor.data_location = onnx.TensorProto.EXTERNAL
                del data
            onnx.save(outside, folder / name)


def as_bytes(array: NDArray[Any]) -> memoryview | bytes:
    """Return the bytes of a tensor as ONNX stores them, without a copy but for types of four bits."""
    if array.dtype == ml_dtypes.int4:
        return bytes(numpy_helper.from_array(array).raw_data)
    flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
    return memoryview(flat)
