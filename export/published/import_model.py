"""``python -m export HUB_NAME_OR_FOLDER --format PRESET --out BUNDLE``: a bundle of a published model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_runtime.bundle.hub import HUB_NAME, fetch
from edge_runtime.bundle.memory_plan import free_memory, gigabytes
from edge_runtime.bundle.presets import preset_names
from edge_runtime.bundle.published import CONFIG, default_frame, is_published, read_config
from export.bundle_writer import Progress, export_model, resolve
from export.errors import ExportError
from export.options import ExportOptions
from export.published.frame_size import parse_frame
from export.published.open_published import Publication, open_published
from export.published.sizes import export_memory, largest_matrix


def import_model(
    source: Path,
    out: Path,
    asked: Mapping[str, Any],
    options: ExportOptions,
    progress: Progress = lambda _: None,
) -> Path:
    """Write the bundle ``out`` from a folder or a repository of the hub.

    ``asked``: stream_format, frame, revision, origin, licence and system_prompt, as the command line gives
    them. Raises EdgeError.
    """
    if asked["stream_format"] is None:
        raise ExportError(
            f"{source}: a published model needs --format: a preset ({', '.join(preset_names())}) or a TOML "
            "file; see docs/models.md"
        )
    resolve(options)
    if asked["frame"] is not None:
        parse_frame(asked["frame"])  # before anything is downloaded
    folder, origin, licence = locate(source, asked["revision"], progress)
    frame = asked["frame"] or default_frame(read_config(folder / CONFIG))
    published = Publication(
        folder,
        asked["stream_format"],
        frame,
        asked["origin"] or origin,
        asked["licence"] or licence,
        asked["system_prompt"],
    )
    check_host_memory(published)
    progress("published checkpoint")
    return export_model(open_published(published), out, options, progress)


def locate(source: Path, revision: str | None, progress: Progress) -> tuple[Path, str, str | None]:
    """Return the folder of a published model, where it comes from, and the licence that the hub states.

    A name of the hub is downloaded. Raises EdgeError.
    """
    if is_published(source):
        if revision is not None:
            raise ExportError(f"{source}: a folder has no --revision; give the hub's OWNER/NAME")
        return source, str(source), None
    if source.exists() or not HUB_NAME.fullmatch(str(source)):
        raise ExportError(f"{source}: neither a model's folder nor the hub's OWNER/NAME; check the path")
    fetched = fetch(str(source), revision, progress)
    return fetched.folder, fetched.origin, fetched.licence


def check_host_memory(published: Publication) -> None:
    """Raises ExportError before hours of work when the export needs more memory than is free."""
    free = free_memory()
    needed = export_memory(largest_matrix(published.folder))
    if free is not None and needed > free:
        raise ExportError(
            f"{published.origin}: the export takes about {gigabytes(needed)} of memory, "
            f"{gigabytes(free)} free; end other programs, or export on a larger machine and copy the bundle"
        )
