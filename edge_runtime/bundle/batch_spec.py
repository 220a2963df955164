"""The decoder for several sessions in one call, as the manifest describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge_runtime.errors import BundleError


@dataclass(frozen=True)
class BatchSpec:
    """A graph over the weights of the decoder for one session. ``places``: sessions that it takes."""

    file: str
    places: int


def read_batch(decoder: Mapping[str, Any], place: str) -> BatchSpec | None:
    """From the manifest's section about the decoder; None without one. ``place``: of the manifest, for
    messages. Raises BundleError.
    """
    if (found := decoder.get("batch")) is None:
        return None
    file, places = (
        (found.get(key) for key in ("file", "places")) if isinstance(found, Mapping) else (None, None)
    )
    if not isinstance(file, str) or not isinstance(places, int) or places < 1:
        raise BundleError(
            f"{place}: key graphs.decoder.batch: expected a file and a positive number of places, "
            f"got {found!r:.80}"
        )
    return BatchSpec(file, places)
