"""A loaded model, shared by sessions."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.session import StreamSession


class Model:
    """Bundle, graphs, tokenizer and embedding table."""

    def __init__(
        self, name_or_folder: str | PathLike[str], *, threads: int | None = None, backend: str = "auto"
    ) -> None:
        raise NotImplementedError

    def session(self, *, threshold: float = 0.5) -> StreamSession:
        return StreamSession(self, threshold=threshold)

    def vision(self, frame: Any) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB of any size -> visual tokens float32 [1, V, D]."""
        raise NotImplementedError
