"""``edge-run models``: the bundles that ``--bundle NAME`` finds, shipped and pulled."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from edge_runtime.command_line.log_options import log_options
from edge_runtime.errors import BundleError


@dataclass(frozen=True)
class Listed:
    """One bundle; sizes in bytes, None for what a damaged bundle does not say."""

    name: str
    precision: str | None
    size: int | None
    memory: int | None
    licence: str | None
    origin: str
    folder: str
    problem: str | None = None


@click.command("models")
@click.option("--json", "as_json", is_flag=True, help="One JSON array with all facts.")
@log_options
def models(as_json: bool) -> int:
    """List the models that are here: size, precision, memory and licence."""
    from edge_runtime.bundle.memory_plan import gigabytes

    found = list_models()
    if as_json:
        click.echo(json.dumps([asdict(one) for one in found], indent=2))
        return 0
    rows = [("NAME", "WEIGHTS", "ON DISK", "MEMORY", "LICENCE", "FROM")]
    for one in found:
        if one.problem is not None:
            rows.append((one.name, "?", "?", "?", "?", one.problem))
            continue
        sizes = (gigabytes(one.size or 0), gigabytes(one.memory or 0))
        rows.append((one.name, one.precision or "?", *sizes, one.licence or "?", one.origin))
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    for row in rows:
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)]
        click.echo("  ".join([*cells, row[5]]))
    return 0


def list_models() -> list[Listed]:
    """Return shipped bundles, then pulled ones, by name; files are not hashed."""
    from edge_runtime.bundle.bundle_cache import cached_names, models_folder
    from edge_runtime.bundle.manifest import MANIFEST, SHIPPED

    shipped = sorted(path.parent for path in SHIPPED.glob(f"*/{MANIFEST}"))
    return [_describe(folder) for folder in (*shipped, *(models_folder() / name for name in cached_names()))]


def _describe(folder: Path) -> Listed:
    from edge_runtime.bundle.manifest import SHIPPED, read_bundle
    from edge_runtime.bundle.memory_plan import plan_of

    try:
        bundle = read_bundle(folder)
        memory = plan_of(bundle).total()
    except BundleError as error:
        return Listed(folder.name, None, None, None, None, "", str(folder), str(error))
    origin = bundle.manifest.get("origin")
    if folder.parent == SHIPPED:
        where = "shipped"
    else:
        where = str(origin.get("checkpoint", "?")) if isinstance(origin, dict) else "?"
    licence = bundle.manifest.get("license")
    return Listed(
        name=folder.name,
        precision=bundle.precision,
        size=sum(spec.size for spec in bundle.files.values()),
        memory=memory,
        licence=licence if isinstance(licence, str) else None,
        origin=where,
        folder=str(folder),
    )
