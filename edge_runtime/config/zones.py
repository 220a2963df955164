"""``[[camera.zone]]`` of edge-run.toml: a name and a polygon."""

from __future__ import annotations

import re
from functools import partial

from edge_runtime.config.table import Table
from edge_runtime.video.zone_names import plain_name
from edge_runtime.video.zones import Zone


def read_zones(camera: Table) -> tuple[Zone, ...]:
    """All zones of a camera; no two may share a name."""
    names: list[str] = []
    found = camera.tables("zone", partial(_zone, names=names))
    return tuple(zone for zone in found if zone is not None)


def _zone(table: Table, names: list[str]) -> Zone | None:
    name = table.required_text("name")
    if "polygon" not in table:
        table.wrong("polygon", "is missing; give the corners, such as [[0, 0.5], [1, 0.5], [1, 1], [0, 1]]")
    corners = [table.as_numbers("polygon", corner, 2) for corner in table.items("polygon")]
    polygon = tuple((corner[0], corner[1]) for corner in corners if corner is not None)
    if name is None or len(polygon) < len(corners) or "polygon" not in table:
        return None
    plain = plain_name(name)
    numbered = re.fullmatch(r"zone ([0-9]+)", plain)
    if plain in names:
        table.wrong("name", f"{name!r} is taken by an earlier zone of this camera")
    elif numbered and int(numbered[1]) != len(names) + 1:
        table.wrong("name", f"{name!r} is the name of another zone for the model; choose a word of your own")
    names.append(plain)
    try:
        return Zone(name, polygon)
    except ValueError as err:
        key, _, text = str(err).partition(": ")
        table.wrong(key, text)
        return None
