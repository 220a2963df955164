"""The kinds of sinks that have a table in edge-run.toml. A new kind is one file and one line in ``BUILT_IN``.

Packages add kinds as entry points of the group ``streampro_edge.sinks``, in their pyproject.toml:

    [project.entry-points."streampro_edge.sinks"]
    syslog = "my_package.syslog:SyslogConfig"

The object is a subclass of :class:`edge_runtime.sinks.base.SinkConfig`; the user writes ``[[syslog]]``.
It is imported when a configuration has such a table. stdout and the file of ``[runtime] events`` have none.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import partial
from importlib.metadata import EntryPoint, entry_points

from edge_runtime.config.table import Table
from edge_runtime.errors import ConfigError, EdgeError
from edge_runtime.sinks.base import Sink, SinkConfig, SinkContext

GROUP = "streampro_edge.sinks"
BUILT_IN = {
    "webhook": "edge_runtime.sinks.webhook:WebhookConfig",
    "mqtt": "edge_runtime.sinks.mqtt:MqttConfig",
    "command": "edge_runtime.sinks.command:CommandConfig",
    "frigate": "edge_runtime.sinks.frigate:FrigateConfig",
}
_OTHER_TABLES = ("runtime", "camera")

_log = logging.getLogger(__name__)


def kinds() -> dict[str, EntryPoint]:
    """All kinds by the name of their table: ours first, then those of other packages by name."""
    others = sorted(entry_points(group=GROUP), key=lambda point: point.name)
    known = {name: EntryPoint(name, target, GROUP) for name, target in BUILT_IN.items()}
    for point in others:
        if point.name not in _OTHER_TABLES:
            known.setdefault(point.name, point)
    return known


def read_sinks(root: Table) -> tuple[SinkConfig, ...]:
    """All sinks that have tables. Two of one kind may not share a name, which is their outbox's.

    Raises ConfigError when the package of a kind cannot be imported.
    """
    sinks: list[SinkConfig] = []
    for kind in kinds().values():
        sinks += root.tables(kind.name, partial(_read, kind=kind, names=set()))
    return tuple(sinks)


def open_sinks(configs: Iterable[SinkConfig], context: SinkContext, *, needed: bool = True) -> list[Sink]:
    """Open each. Raises ConfigError for a secret that is missing and SinkError for what cannot be opened,
    after closing those already opened. If not ``needed``, what cannot be used is left out with a warning.
    """
    sinks: list[Sink] = []
    try:
        for config in configs:
            try:
                sinks.append(config.open(context))
                _log.debug("%s is open", sinks[-1].name)
            except EdgeError as err:
                if needed:
                    raise
                _log.warning("%s. The run goes on without it: it watches no camera of edge-run.toml", err)
    except EdgeError:
        for sink in sinks:
            sink.close()
        raise
    return sinks


def _read(table: Table, kind: EntryPoint, names: set[str]) -> SinkConfig:
    name = table.required_text("name")
    if name is not None and not re.fullmatch(r"[\w-]+", name):
        table.wrong("name", f"expected a name of letters, digits, '-' and '_', got {name!r}")
    elif name in names:
        table.wrong("name", f"{name!r} is taken by an earlier {kind.name}")
    names.add(name or "")
    return _load(kind).read(table, name or "")


def _load(kind: EntryPoint) -> type[SinkConfig]:
    try:
        found = kind.load()
    except Exception as err:  # anything may happen in another package
        raise ConfigError(
            f"[[{kind.name}]]: {kind.value} cannot be imported: {type(err).__name__}: {err}; "
            f"install its package again, or remove the table"
        ) from err
    if not (isinstance(found, type) and issubclass(found, SinkConfig) and found.kind == kind.name):
        raise ConfigError(
            f"[[{kind.name}]]: {kind.value} is not a SinkConfig of the kind {kind.name}; "
            "install another version of its package, or remove the table"
        )
    return found
