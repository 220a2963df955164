"""Put the mask element into a pipeline as soon as there is something to hide, also while it plays.

Without masks the element is not there: decoders may give frames that nobody may write to, and nothing has to.
"""

from __future__ import annotations

import threading
from typing import Any

from edge_runtime.video.framing import Polygon
from pipelines.gst import load


class Masking:
    """The place between two linked elements, ``before`` and ``after``, where masks are applied."""

    def __init__(self, pipeline: Any, before: Any, after: Any) -> None:
        self._pipeline = pipeline
        self._before = before
        self._after = after
        self._element: Any = None
        self._lock = threading.Lock()

    def set_masks(self, masks: tuple[Polygon, ...]) -> None:
        """Black out these polygons from the next frame on, from any thread."""
        with self._lock:
            if self._element is not None:
                return self._element.set_masks(masks)  # type: ignore[no-any-return]
            if not masks:
                return None
            from pipelines.pipeline.mask import PrivacyMask

            self._element = PrivacyMask(masks)
        # A pad is idle between two frames, and before the first: the next frame meets the element.
        kind = load().Gst.PadProbeType.IDLE
        self._before.get_static_pad("src").add_probe(kind, self._on_idle)
        return None

    def _on_idle(self, _pad: Any, _info: Any) -> Any:
        self._insert()
        return load().Gst.PadProbeReturn.REMOVE

    def _insert(self) -> None:
        """Should a link fail, the flow ends with an error: no frame goes around the element."""
        self._before.unlink(self._after)
        self._pipeline.add(self._element)
        self._before.link(self._element)
        self._element.link(self._after)
        self._element.sync_state_with_parent()
