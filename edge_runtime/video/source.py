"""What the runtime needs of a camera; ``pipelines.camera`` has the real ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from edge_runtime.errors import SourceError
from edge_runtime.video.framing import Polygon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Picture(Protocol):
    """A frame at the size of the video; see ``pipelines.evidence.moment.Picture``."""

    def jpeg(self, size: int | None = None) -> bytes:
        """Encode it; ``size``: the pixels of the longer side at most."""
        ...


class Frame(Protocol):
    """A frame as the camera gives it; see ``pipelines.pipeline.frame_queue.Frame``."""

    @property
    def image(self) -> NDArray[np.uint8]:
        """uint8 [H, W, 3] RGB; the very array of the frame before when it shows nothing new."""
        ...

    @property
    def captured_at(self) -> float:
        """``time.monotonic()`` of its capture."""
        ...

    @property
    def index(self) -> int:
        """The timestep it closes."""
        ...

    @property
    def moment(self) -> Any:
        """What evidence of it is made from (:class:`edge_runtime.events.evidence.Moment`), or None."""
        ...

    @property
    def picture(self) -> Picture | None:
        """It at the size of the video, masks applied; None when no picture was asked for."""
        ...


class Camera(Protocol):
    """What a run needs of ``pipelines.camera.Camera``."""

    @property
    def live(self) -> bool: ...

    @property
    def description(self) -> str: ...

    @property
    def decoder(self) -> str:
        """Empty until the first frame came."""
        ...

    @property
    def resolution(self) -> tuple[int, int] | None:
        """Width and height of the video; None until the first frame came."""
        ...

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were looked at."""
        ...

    @property
    def reconnects(self) -> int: ...

    def read(self, timeout_s: float) -> Any:
        """A Frame, a state change (``state``, ``cause``) or None. StopIteration or SourceError ends it."""
        ...

    def set_masks(self, masks: Sequence[Polygon]) -> None:
        """Black out these polygons, in place of those before, from the next frame on."""
        ...

    def want_pictures(self, seconds: float) -> None:
        """Give the frames of the next ``seconds`` with their pictures; from any thread."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class _Failed:
    cause: str
    state: str = "failed"


class AbsentCamera:
    """Stands for a camera that could not be opened: it reports that and fails, like one that breaks later."""

    live = True
    decoder = ""
    resolution = None
    dropped = 0
    reconnects = 0

    def __init__(self, description: str, error: SourceError) -> None:
        self.description = description
        self._error = error
        self._reported = False

    def read(self, timeout_s: float) -> Any:
        if self._reported:
            raise self._error
        self._reported = True
        return _Failed(str(self._error))

    def set_masks(self, masks: Sequence[Polygon]) -> None: ...

    def want_pictures(self, seconds: float) -> None: ...

    def close(self) -> None: ...
