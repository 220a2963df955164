"""What a run needs of a model, whatever stands behind it: a bundle or the server of an endpoint.

A bundle (:class:`~edge_runtime.engine.model.Model`) decides while a frame is pushed. A server decides later:
its session returns None for the frame, and the decision is taken when it has come.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from edge_runtime.backends.batcher import StepBatcher
from edge_runtime.bundle.knowledge import Knowledge
from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.engine.decision import Decision
from edge_runtime.video.framing import Framing
from edge_runtime.video.zones import Zone


class FrameEncoder(Protocol):
    """Frames of one stream to what sessions are pushed. For one thread at a time."""

    def preprocess(self, frame: Any) -> Any:
        """uint8 [H, W, 3] RGB -> what :meth:`encode` reads."""
        ...

    def encode(self, pixels: Any) -> Any:
        """What :meth:`WatchSession.push_tokens` takes."""
        ...

    def reset(self) -> None:
        """Forget the last frame: what comes next begins a stream."""
        ...


class WatchSession(Protocol):
    """One stream and its queries; see :class:`~edge_runtime.engine.session.StreamSession`."""

    @property
    def queries(self) -> Mapping[str, str]: ...

    @property
    def undecided(self) -> Collection[float]:
        """Ends, in seconds of the stream, of the timesteps whose decision is still to come."""
        ...

    def push_tokens(self, visual_tokens: Any, index: int) -> Decision | None:
        """The decision about timestep ``index``; None when it comes later, or never: a newer frame may take
        its place.
        """
        ...

    def take(self) -> Decision | None:
        """A decision that has come since; None without one. Raises BackendError when none can come."""
        ...

    def ask(self, text: str, *, id: str | None = None) -> str: ...

    def check(self, text: str, beside: Sequence[str] = ()) -> None: ...

    def remove(self, query_id: str) -> None: ...

    def set_threshold(self, query_id: str, value: float | None) -> None: ...

    def reset(self, *, keep_queries: bool = False) -> None: ...

    def close(self) -> None: ...


class StreamModel(Protocol):
    """A model that is ready to watch."""

    @property
    def stream_format(self) -> StreamFormat: ...

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str:
        """Name and kind, for a summary."""
        ...

    @property
    def backend(self) -> str:
        """What runs it, in words."""
        ...

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the frames it wants."""
        ...

    @property
    def identity(self) -> str:
        """Tells models apart: a file's events have the same ids only when the same model made them."""
        ...

    @property
    def knowledge(self) -> Knowledge | None:
        """What it was trained for; None when it takes any question."""
        ...

    @property
    def zone_names(self) -> tuple[str, ...]: ...

    @property
    def batcher(self) -> StepBatcher | None:
        """Lets its sessions share calls of the engine; None where each needs its own."""
        ...

    @property
    def outage(self) -> str:
        """Why it cannot decide at present, in words; empty when it can."""
        ...

    def counts(self) -> dict[str, int]:
        """What its server was asked so far, over all cameras; empty for a bundle."""
        ...

    def session(self) -> WatchSession: ...

    def open_vision(self) -> FrameEncoder: ...

    def with_fps(self, fps: float) -> StreamModel: ...

    def with_zones(self, zones: Sequence[Zone], framing: Framing | None = None) -> StreamModel: ...
