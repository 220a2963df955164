"""``[[webhook]]`` and ``[[mqtt]]`` of edge-run.toml: who events are sent to.

The dataclasses, and what is done with them, are in :mod:`edge_runtime.sinks.registry`.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from edge_runtime.config.toml import Table
from edge_runtime.sinks.registry import (
    DEFAULT_TYPES,
    EVENT_TYPES,
    MqttConfig,
    ReceiverConfig,
    Secret,
    WebhookConfig,
)


def read_receivers(root: Table) -> tuple[ReceiverConfig, ...]:
    """Webhooks, then MQTT brokers. Two of one kind may not share a name, which is their outbox's."""
    receivers: list[ReceiverConfig] = []
    for kind, read in (("webhook", _webhook), ("mqtt", _mqtt)):
        receivers += root.tables(kind, partial(read, names=set()))
    return tuple(receivers)


def read_secret(table: Table, key: str) -> Secret:
    """``key_env`` or ``key_file``; at most one of them."""
    env, file = table.text(f"{key}_env", None), table.path(f"{key}_file")
    for name in (f"{key}_env", f"{key}_file"):
        if table.value(name) == "":
            table.wrong(name, "expected a name, got nothing")
    if env is not None and file is not None:
        table.wrong(f"{key}_file", f"expected one of {key}_env and {key}_file")
    return Secret(env, file)


def _webhook(table: Table, names: set[str]) -> WebhookConfig:
    from edge_runtime.sinks.webhook import check_url

    common = _common(table, names)
    url, url_from = table.text("url", ""), read_secret(table, "url")
    if sum((bool(url), url_from.env is not None, url_from.file is not None)) != 1:
        table.wrong("url", "expected exactly one of url, url_env and url_file")
    elif url and (problem := check_url(url)):
        table.wrong("url", problem)
    _forbid(table, "secret")
    return WebhookConfig(
        **common,
        url=url,
        url_from=url_from,
        secret=read_secret(table, "secret"),
        connect_timeout_s=table.positive("connect_timeout", 5.0),
        read_timeout_s=table.positive("read_timeout", 10.0),
    )


def _mqtt(table: Table, names: set[str]) -> MqttConfig:
    common = _common(table, names)
    host = table.required_text("host")
    if host is not None and not re.fullmatch(r"[\w.:-]+", host):
        table.wrong("host", "expected a host's name or address alone")
    topic = table.text("topic", "edge-run")
    if not topic.strip("/") or re.search(r"[+#\x00]", topic):
        table.wrong("topic", f"expected a topic without wildcards, got {topic!r}")
    _forbid(table, "password")
    return MqttConfig(
        **common,
        host=host or "",
        port=table.whole("port", None, lambda port: 0 < port < 65536, "a port from 1 to 65535"),
        topic=topic.strip("/"),
        tls=table.flag("tls", False),
        user=table.text("user", None),
        password=read_secret(table, "password"),
    )


def _common(table: Table, names: set[str]) -> dict[str, Any]:
    name = table.required_text("name")
    if name is not None and not re.fullmatch(r"[\w-]+", name):
        table.wrong("name", f"expected a name of letters, digits, '-' and '_', got {name!r}")
    elif name in names:
        table.wrong("name", f"{name!r} is taken by an earlier {table.at[0]}")
    names.add(name or "")
    types = table.items("events") if "events" in table else list(DEFAULT_TYPES)
    if not types or not all(kind in EVENT_TYPES for kind in types):
        table.wrong("events", f"expected some of {', '.join(EVENT_TYPES)}, got {types!r}")
    return {
        "name": name or "",
        "types": tuple(types),
        "outbox_bytes": int(table.positive("outbox_megabytes", 64.0) * (1 << 20)),
        "outbox_age_s": table.positive("outbox_days", 7.0) * 86400,
        "ca_file": table.path("ca_file"),
    }


def _forbid(table: Table, key: str) -> None:
    table.forbid(key, f"secrets do not belong in this file; use {key}_env or {key}_file")
