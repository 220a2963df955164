"""A camera's zones on a loaded bundle: their grid for the vision graph, their names in questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle.manifest import Bundle
from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from edge_runtime.errors import ConfigError
from edge_runtime.video.framing import Framing
from edge_runtime.video.zone_names import ZoneNames
from edge_runtime.video.zones import Zone, camera_grid


def zone_grid(bundle: Bundle, zones: Sequence[Zone], framing: Framing) -> NDArray[np.float32]:
    """Rasterise a camera's zones for the bundle. Raises ConfigError when it knows no zones, or fewer."""
    if bundle.zones is None:
        raise ConfigError(
            f"bundle {bundle.name} knows no zones; remove [[camera.zone]], or use a bundle that does"
        )
    return camera_grid(zones, framing, *bundle.zones)


class ZoneEncoder(TurnEncoder):
    """A turn encoder whose queries may name zones."""

    def __init__(
        self, stream_format: StreamFormat, encode: Callable[[str], list[int]], names: ZoneNames
    ) -> None:
        super().__init__(stream_format, encode)
        self._names = names

    def query_ids(self, text: str, number: int = 1) -> list[int]:
        return super().query_ids(self._names.for_model(text), number)
