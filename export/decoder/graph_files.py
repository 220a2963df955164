"""Graphs on disk: small ones in one file each, several flavours of one decoder over one file of weights."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import onnx

_LARGE_BYTES = 1_024
_INLINE_LIMIT = 1_500_000_000
"""A protobuf file ends at 2 GB."""


def save_graphs(models: Mapping[str, onnx.ModelProto], folder: Path, weights: str) -> None:
    """Write each model under its file name. Tensors go to the file ``weights`` beside them when there is more
    than one model, equal ones only once, or when a model would be too large for one file.
    """
    if len(models) == 1 and all(model.ByteSize() < _INLINE_LIMIT for model in models.values()):
        for name, model in models.items():
            onnx.save(model, folder / name)
        return
    places: dict[bytes, int] = {}
    with (folder / weights).open("wb") as file:
        for name, model in models.items():
            outside = onnx.ModelProto()
            outside.CopyFrom(model)
            for tensor in outside.graph.initializer:
                if not tensor.HasField("raw_data") or len(tensor.raw_data) < _LARGE_BYTES:
                    continue
                data = tensor.raw_data
                digest = hashlib.sha256(data).digest()
                if digest not in places:
                    file.write(b"\0" * (-file.tell() % 4096))  # aligned, so that readers may map it
                    places[digest] = file.tell()
                    file.write(data)
                onnx.external_data_helper.set_external_data(
                    tensor, location=weights, offset=places[digest], length=len(data)
                )
                tensor.ClearField("raw_data")
                tensor.data_location = onnx.TensorProto.EXTERNAL
            onnx.save(outside, folder / name)
