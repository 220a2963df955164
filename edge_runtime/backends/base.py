"""What an inference engine must do for the runtime. Nothing here imports one.

A backend compiles the two graphs of a bundle once; every session then opens its own cache on the decoder.
Caches of one decoder may run in parallel, one cache is for one thread at a time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.bundle.manifest import Bundle, GraphSpec, TensorSpec
from edge_runtime.errors import BundleError
from edge_runtime.kv_cache.window import EvictionPlan


class VisionGraph(Protocol):
    """Frames to visual tokens. Remembers nothing: safe to call from several threads."""

    def run(
        self,
        pixels: NDArray[np.float32],
        previous: NDArray[np.float32] | None,
        zones: NDArray[np.float32] | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """``pixels`` [1, 3, H, W] -> ``tokens`` [1, V, D] and this frame's features.

        ``previous``: the features of the frame before, None for the first of a stream. A graph that looks at
        one frame alone ignores them and gives None. ``zones`` [1, Z, G, G]: the camera's zones, None for
        none; ignored by a graph that takes none. Raises BackendError.
        """
        ...


def initial_features(graph: GraphSpec, name: str = "previous") -> NDArray[np.float32] | None:
    """The previous features of a stream's first frame: zeros; None for a graph that takes none.

    ``name``: that of another input, whose zeros are what it is without anything.

    Raises BundleError when their shape is not all numbers.
    """
    wanted = [tensor for tensor in graph.inputs if tensor.name == name]
    if not wanted:
        return None
    shape = [size for size in wanted[0].shape if isinstance(size, int)]
    if len(shape) != len(wanted[0].shape):
        raise BundleError(f"graph {graph.file}: input {name} must have a fixed shape; export it again")
    return np.zeros(shape, dtype=np.float32)


def check_names(what: str, specs: Iterable[TensorSpec], names: Iterable[str]) -> None:
    """Raises BundleError when ``names`` of ``what``, tensors of a graph, are not those of bundle.json."""
    difference = {spec.name for spec in specs} ^ set(names)
    if difference:
        named = ", ".join(sorted(difference)[:3])
        raise BundleError(f"{what} are not those of bundle.json ({named}); export the bundle again")


class DecoderCache(Protocol):
    """The decoder with one stream's keys and values: static buffers of ``capacity`` slots, written in
    place.
    """

    capacity: int
    most_rows: int
    """Most tokens that :meth:`verify` takes."""

    def step(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """Append ``embeddings`` [S, D] at slots ``start ..``, which overwrites what lay there before.

        ``positions`` [3, S]: for graphs with M-RoPE; None where a slot's index is its position. ``deepstack``
        [n, S, D]: for graphs with that input, added after each of the first n layers.
        Returns the logits of the last position, float32 [vocab]: a view that the next step overwrites.
        ``start + S`` must not exceed ``capacity``. Raises BackendError when the engine fails; slots before
        ``start`` are untouched then.
        """
        ...

    def verify(
        self,
        embeddings: NDArray[np.float32],
        start: int,
        positions: NDArray[np.int64] | None = None,
        deepstack: NDArray[np.float32] | None = None,
    ) -> NDArray[np.float32]:
        """As :meth:`step`, with the logits of every position, float32 [S, vocab]."""
        ...

    def evict(self, plan: EvictionPlan) -> None:
        """Slots of ``plan.kept`` become the first ones, their keys rotated to as many positions apart."""
        ...

    def read_slots(self, slots: int) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Copies of the first ``slots`` keys and values, [L, Hkv, slots, Dh] each, oldest first and positions
        counted from 0, float32; to compare, not to run.
        """
        ...

    def close(self) -> None:
        """Free the buffers. No call may follow."""
        ...


class DecoderGraph(Protocol):
    """The compiled decoder, shared by the caches opened on it."""

    batcher: StepBatcher | None
    """Lets sessions share calls; None where each needs its own."""

    def open_cache(self) -> DecoderCache: ...


class Backend(Protocol):
    """One engine on one device."""

    description: str
    """For people: engine, version, device, threads."""

    def load_vision(self, bundle: Bundle) -> VisionGraph:
        """Raises BackendError when the engine cannot run the graph, BundleError when the graph is not as
        said.
        """
        ...

    def load_decoder(self, bundle: Bundle) -> DecoderGraph:
        """As :meth:`load_vision`."""
        ...
