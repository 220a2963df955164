"""What looks at a connection's video beside its decisions: evidence is made from it."""

from __future__ import annotations

from typing import Any, Protocol


class Tap(Protocol):
    """Called on GStreamer's threads; must not raise. None stands for no tap, which costs nothing."""

    @property
    def wants_pictures(self) -> bool:
        """True when frames must come by in full size."""
        ...

    def watch_parser(self, element: Any) -> None:
        """A parser was made. It is not running yet."""

    def watch_decoder(self, element: Any) -> None:
        """A video decoder was made. There may be one for each stream of video."""

    def use_decoder(self, element: Any) -> None:
        """The frames of this decoder are the ones in use."""

    def add_branch(self, pipeline: Any) -> Any | None:
        """Add elements for raw video of a live source, and return the one that takes it. None for none.

        Raises SourceError when an element is missing.
        """

    def watch_masked(self, pad: Any, converter: Any) -> None:
        """Frames pass ``pad`` as BGRx with masks applied, of full size if wanted; ``converter`` made them."""

    def selected(self, stamp_ns: int | None) -> None:
        """The frame that passes next is selected. ``stamp_ns``: running time (live) or stream time."""
