"""Backbones by name. A new one is a module or folder here, and one line in ``BACKBONES``.

Another package adds one as an entry point of ``streampro_edge.backbones``, whose object is a
:class:`Backbone`. Its module is imported when a checkpoint or a command asks for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge_runtime.errors import ConfigError
from train.config.registry import Registry

if TYPE_CHECKING:
    from train.models.base import StreamModel

Build = Callable[[dict[str, Any], Path], "StreamModel"]
"""config.json and its folder -> the model with its frozen vision, its weights still to be loaded. Raises
KeyError, TypeError or ValueError for a configuration that does not fit."""


class BackboneError(ConfigError, ValueError):
    """A pretrained model can't be taken; the message says which and why."""


@dataclass(frozen=True)
class Backbone:
    """One backbone, or several families of one kind.

    ``families``: what config.json says under ``family`` where :attr:`build` makes the model. ``init``: the
    subcommand of ``python -m train init-backbone`` that writes a first checkpoint; it takes :data:`OUT`.
    ``exporter``: "module:object" of its :class:`export.families.base.Family`, None where it can't be
    exported.
    """

    families: tuple[str, ...] = ()
    build: Build | None = None
    init: click.Command | None = None
    exporter: str | None = None


BACKBONES: Registry[Backbone] = Registry(
    "backbone",
    "streampro_edge.backbones",
    {
        "compact": "train.models.compact.backbone:BACKBONE",
        "smol": "train.models.smollm:BACKBONE",
        "qwen": "train.models.qwen.backbone:BACKBONE",
        "smolvlm": "train.models.smolvlm.backbone:BACKBONE",
    },
)


def backbone_of(family: Any) -> Backbone:
    """The backbone whose checkpoints name ``family``. Raises ConfigError for a family that none has."""
    known: list[str] = []
    for name in BACKBONES.names():
        backbone = BACKBONES.find(name)
        if family in backbone.families:
            return backbone
        known += backbone.families
    raise ConfigError(f"family is {family!r}, expected one of {', '.join(known)}")


def known_fields(cls: type, data: dict[str, Any]) -> dict[str, Any]:
    """Those of ``data`` that the dataclass has: keys that a later version added are ignored (formats.md)."""
    names = {f.name for f in fields(cls)}
    return {key: value for key, value in data.items() if key in names}


def _unused(context: click.Context, parameter: click.Parameter, path: Path) -> Path:
    if path.exists():
        raise click.UsageError(f"{path} is there already; choose another --out or remove it")
    return path


OUT = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    callback=_unused,
    help="Checkpoint to write.",
)
"""The folder that a command writes, which must not be there."""
