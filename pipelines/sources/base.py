"""The interface of a source. Everything outside a kind's own module goes through it.

A kind of source is one module (or folder) beside this one: a frozen dataclass that extends :class:`Source`,
a function that parses its addresses, and one line in :mod:`pipelines.sources.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.sources.container import Structure
from pipelines.sources.errors import Problem, StreamError
from pipelines.sources.options import ConnectionOptions
from pipelines.sources.skipped import Skipped

Connect = Callable[[Any, str, Callable[..., Any]], None]
"""``connect(element, signal, callback)``: registers a signal handler that is removed with the pipeline."""


@dataclass(frozen=True)
class ElementContext:
    """What a source may use while it makes its elements. The callbacks may be called from any thread."""

    pipeline: Any
    options: ConnectionOptions
    fps: float
    """Timesteps per second."""
    connect: Connect
    on_skipped: Callable[[str, str], None]
    """``on_skipped(path, reason)``: a part of the source cannot be read and is passed over."""
    fail: Callable[[Problem], None]
    """Ends the connection with a problem that is known better than what GStreamer will report."""


class Source(ABC):
    """What an address says, as a frozen dataclass. Nothing is opened before :meth:`make_elements`.

    Only ``kind``, ``label`` and :meth:`make_elements` have to be given. A class attribute may take the place
    of a property: ``live = True``. What a user may set stands in the address, such as ``?latency=200``.
    """

    decoder: str = ""
    """Empty: a decodebin decodes what the elements give. ``none``: they give raw video. Else: they give
    raw video, and this is the name of what decodes it.
    """
    stamped_at_end: bool = False
    """True when a time stamp says where its frame ends; then no frame is repeated to fill a gap."""
    takes_credentials: bool = False
    """True when :meth:`with_credentials` may be called."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """One or two words for the description of an open camera."""

    @property
    @abstractmethod
    def label(self) -> str:
        """The source in messages, without secrets."""

    @property
    def live(self) -> bool:
        """True when frames come at their own pace: the newest counts, and a lost source is opened again.

        Otherwise the source is read as fast as its frames are taken, and none is dropped.
        """
        return False

    @property
    def segmented(self) -> bool:
        """True for a playlist: its segments come in bursts, and their own times set the pace."""
        return False

    @property
    def has_duration(self) -> bool:
        """True when the end of the stream may be known in advance."""
        return not self.live

    def with_credentials(self, user: str | None, password: str | None) -> Source:
        """Return the source with a user and password from the configuration."""
        raise NotImplementedError

    # ------------------------------------------------------------------ before it is opened

    def check(self) -> Problem | None:
        """Say what is wrong with the source without opening it; None when it is worth trying."""
        return None

    def resolve(self) -> Source:
        """Look the source up on this machine. Raises SourceError when it is not there."""
        return self

    def prepare(
        self, options: ConnectionOptions, timeout_s: float, cancelled: Callable[[], bool]
    ) -> Source | Problem:
        """Return the source with what is known now, or why there is no use in connecting.

        Called before each connection. May block for ``timeout_s``, less when ``cancelled()`` becomes true.
        """
        try:
            return self.resolve()
        except SourceError as error:
            return Problem(str(error), "", "permanent" if error.permanent else "transient")

    def exclusive_key(self) -> object:
        """Return what identifies a device or port with one reader at most; None when there may be several."""
        return None

    def event_identity(self, *more: str) -> str | None:
        """Return what the event ids of a recording are made from; None for a source that never repeats.

        ``more`` goes into it, such as the identity of the model.
        """
        return None

    def structure(self) -> Structure | None:
        """Return the structure of the file behind the source; None when it cannot be looked at."""
        return None

    # ------------------------------------------------------------------ while it is read

    @abstractmethod
    def make_elements(self, context: ElementContext) -> list[Any]:
        """Make GStreamer elements, to be linked in this order. Raises SourceError when one is missing.

        The last one has a ``src`` pad, or adds its pads later.
        """

    def explain(self, error: StreamError) -> Problem | None:
        """Explain an error of GStreamer's; None leaves that to :func:`pipelines.sources.errors.explain`."""
        return None

    def diagnose(self, problem: Problem, options: ConnectionOptions) -> Problem:
        """Return ``problem``, or a better explanation that takes another connection to find."""
        return problem

    def conclude(self, shown: int, skipped: Skipped) -> tuple[str, Problem | None] | None:
        """Return the closing words and, if it was not read whole, the problem.

        None: the coded video is looked at. ``shown``: frames decoded.
        """
        return None
