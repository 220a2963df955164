"""The folder of a bundle on disk: room for it, what lies in it, and taking the old one's place whole."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from export.errors import ExportError
from train.models.base import StreamModel


def describe_files(folder: Path, leave_out: Sequence[str] = ()) -> dict[str, dict[str, Any]]:
    """Hash and size by name of what lies in ``folder``."""
    return {
        path.name: {"sha256": _sha256(path), "bytes": path.stat().st_size}
        for path in sorted(folder.iterdir())
        if path.name not in leave_out
    }


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> None:
    """``bundle.json``; what is no JSON in it is written as text."""
    text = json.dumps(manifest, indent=1, ensure_ascii=False, default=str)
    (folder / "bundle.json").write_text(text + "\n", encoding="utf-8")


def sweep(out: Path) -> None:
    """Remove what exports of ``out`` that were killed have left beside it.

    One that was killed between its two renames has put the old bundle aside and nothing in its place: the old
    one is put back.
    """
    pattern = re.compile(rf"\.{re.escape(out.name)}\.(\d+)(\.old)?")
    for path in out.parent.iterdir():
        match = pattern.fullmatch(path.name)
        if match is None or _alive(int(match[1])):
            continue
        if match[2] and not out.exists():
            os.replace(path, out)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def check_room(folder: Path, model: StreamModel) -> None:
    """Raises ExportError before hours of work when the disk cannot hold the result."""
    # fp32 weights at worst, those of a quantised graph while both exist, and the embedding table.
    needed = 6 * sum(weight.numel() for weight in model.parameters()) + (64 << 20)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ExportError(
            f"{folder}: {free / 1e6:.0f} MB free, the bundle may need {needed / 1e6:.0f} MB; "
            "make room or choose another place"
        )
