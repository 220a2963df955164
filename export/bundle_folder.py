"""The folder of a bundle on disk: room for it, and its files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from edge_runtime.bundle.verification import file_sha256
from export.errors import ExportError
from train.models.base import StreamModel
from train.models.stored import weight_rows

_TABLE_ROWS = 1 << 14
_BYTES = {"fp32": 4.0, "fp16": 2.0, "int8": 1.25, "fp8": 1.25, "int4": 0.75}
"""Per weight, with its share of a scale."""


def describe_files(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Hash and size by name of what lies in ``folder``."""
    return {
        path.name: {"sha256": file_sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name not in leave_out
    }


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """``bundle.json``; what is no JSON in it is written as text."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, default=str)
    (folder / "bundle.json").write_text(text + "\n", encoding="utf-8")


def write_table(path: Path, embedding: nn.Embedding) -> None:
    """Write the table [vocab, D] as a float16 array of NumPy, some rows at a time."""
    rows, width = embedding.weight.shape
    header = {"descr": np.lib.format.dtype_to_descr(np.dtype(np.float16)), "fortran_order": False}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header | {"shape": (rows, width)})
        for start in range(0, rows, _TABLE_ROWS):
            part = weight_rows(embedding, start, min(start + _TABLE_ROWS, rows))
            file.write(part.half().numpy().tobytes())


def check_room(folder: Path, model: StreamModel, backbone: nn.Module, precision: str) -> None:
    """Raises ExportError before hours of work when the disk cannot hold the result."""
    weights, vision = (sum(one.numel() for one in part.parameters()) for part in (model, backbone))
    table = 2 * model.embedding.weight.numel()
    needed = int(_BYTES[precision] * weights) + table + 4 * vision + (64 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"{folder}: {free / 1e6:.0f} MB free, the bundle may need {needed / 1e6:.0f} MB; "
            "make room or choose another place"
        )
