"""Bundles that ``edge-run pull`` made: where they lie, and what is there."""

from __future__ import annotations

import os
from pathlib import Path


def models_folder() -> Path:
    """Return the folder of pulled bundles; it need not exist."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "streampro-edge" / "models"


def cached_bundle(name: str) -> Path | None:
    """Return the folder of the pulled bundle ``name``; None without one."""
    if not name or name.startswith(".") or Path(name).name != name:
        return None
    folder = models_folder() / name
    return folder if (folder / "bundle.json").is_file() else None


def cached_names() -> list[str]:
    """Return the names of all pulled bundles."""
    found = models_folder().glob("*/bundle.json")
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))
