"""What made a prediction file: ``OUT.run.json`` beside ``OUT``, written by `run` and read by `plot`.

The file is for people and for the head of a page; a score does not depend on it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.metric.annotations import FormatError
from edge_runtime.atomic_write import write_whole
from edge_runtime.bundle.manifest import Bundle

MANIFEST_KEYS = ("name", "family", "backbone", "precision", "created", "commit", "license", "parity")
"""The keys of bundle.json that identify the model."""


def metadata_path(predictions: Path) -> Path:
    """Where the facts of a prediction file lie."""
    return predictions.with_name(predictions.name + ".run.json")


def write_metadata(predictions: Path, settings: Mapping[str, Any], bundle: Bundle | None = None) -> None:
    """Write the ``settings`` of a run and what its bundle says of itself. Raises SinkError."""
    about: dict[str, Any] = {}
    if bundle is not None:
        about = {key: bundle.manifest[key] for key in MANIFEST_KEYS if key in bundle.manifest}
        about["bytes"] = sum(spec.size for spec in bundle.files.values())
    data = {"run": dict(settings), "bundle": about}
    text = json.dumps(data, indent=2, ensure_ascii=False)
    write_whole(metadata_path(predictions), [text, "\n"])


def read_metadata(predictions: Path) -> dict[str, dict[str, Any]] | None:
    """``{"run": ..., "bundle": ...}`` of a prediction file, or None. ``bundle`` is empty for a polled model.

    Raises FormatError for a file that holds something else.
    """
    path = metadata_path(predictions)
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read as JSON; write it again or remove it") from error
    if not isinstance(data, dict) or not all(isinstance(data.get(key), dict) for key in ("run", "bundle")):
        raise FormatError(f"{path}: expected an object with 'run' and 'bundle'; remove the file")
    return {"run": data["run"], "bundle": data["bundle"]}
