"""Sizes of a published model, from the headers of its files: nothing of the weights is read."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Iterator
from pathlib import Path

from edge_runtime.errors import BundleError

_EXPORT_BASE = 3_500_000_000
"""Bytes that an export takes whatever the model: PyTorch, the graphs, and weights kept for comparisons."""
_EXPORT_BYTES = 6
"""For each element of the largest matrix, which is read, transposed or rounded, and written."""
_LONGEST_HEADER = 100 << 20
_CODES, _CODES_PER_WORD = (".weight_packed", ".qweight"), 8


def tensors(folder: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield name and shape of every tensor. Raises BundleError for a file that is no safetensors."""
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with path.open("rb") as file:
                (length,) = struct.unpack("<Q", file.read(8))
                if length > _LONGEST_HEADER:
                    raise ValueError("its header is too long")
                header = json.loads(file.read(length))
        except (OSError, ValueError, struct.error) as error:
            raise BundleError(f"{path}: no safetensors ({error}); download it again") from error
        for name, entry in header.items():
            if name != "__metadata__":
                yield name, tuple(entry["shape"])


def export_memory(largest: int) -> int:
    """Return how much memory an export takes whose largest matrix has so many elements."""
    return _EXPORT_BASE + _EXPORT_BYTES * largest


def largest_matrix(folder: Path) -> int:
    """Return the elements of the largest tensor in the files."""
    return max((math.prod(shape) for _, shape in tensors(folder)), default=0)


def count_parameters(folder: Path) -> int:
    """Return how many parameters the files hold; eight in each word of weights in 4 bits."""
    return sum(
        math.prod(shape) * (_CODES_PER_WORD if name.endswith(_CODES) else 1)
        for name, shape in tensors(folder)
    )
