"""The vision graph over one stream: each frame is encoded with the features of the frame before.

A graph may compare a frame with the one before. The features that it needs of that one come out of one call
and go into the next; the graph itself keeps no state and is shared by all streams.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.base import VisionGraph
from edge_runtime.bundle.manifest import ModelSpec
from edge_runtime.engine.preprocess import letterbox, normalise


class VisionStream:
    """Frames of one stream to visual tokens. For one thread at a time.

    For several sessions on one stream: see each frame once here, then ``push_tokens`` to every session.
    ``zones`` [1, Z, G, G]: where the camera's zones lie (:mod:`edge_runtime.video.zones`).
    """

    def __init__(
        self, graph: VisionGraph, model: ModelSpec, zones: NDArray[np.float32] | None = None
    ) -> None:
        self._graph, self._model, self._zones = graph, model, zones
        self.previous: NDArray[np.float32] | None = None
        """Features of the last frame; None before the first one, and for graphs that look at one frame alone.
        May be set back to undo a frame."""

    def see(self, frame: Any) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB of any size -> visual tokens float32 [1, V, D]. Raises SourceError for another
        array, BackendError when the engine fails.
        """
        return self.encode(self.preprocess(frame))

    def preprocess(self, frame: Any) -> NDArray[np.float32]:
        """uint8 [H, W, 3] RGB of any size -> ``pixels`` float32 [1, 3, height, width] of the vision graph."""
        return normalise(
            letterbox(frame, self._model.image_size), self._model.image_mean, self._model.image_std
        )

    def encode(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """``pixels`` of the next frame -> visual tokens [1, V, D]. Raises BackendError."""
        tokens, self.previous = self._graph.run(pixels, self.previous, self._zones)
        return tokens

    def reset(self) -> None:
        """Forget the last frame: what comes next begins a stream."""
        self.previous = None
