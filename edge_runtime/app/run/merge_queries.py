"""A reload of ``edge-run.toml`` beside changes that came over :mod:`edge_runtime.app.run.control`.

What has changed in the file since it was read last is taken over, and nothing else. So a question that was
asked over HTTP or MQTT stays, one that was withdrawn is not asked again, and a threshold that was set stays
until the file gives that question other settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from edge_runtime.engine.query import Query
from edge_runtime.events.query_config import QueryConfig

_T = TypeVar("_T")


def merge(
    current: Sequence[Query], before: Sequence[QueryConfig], after: Sequence[QueryConfig]
) -> list[tuple[Query | None, QueryConfig]]:
    """What to watch for: each query of the file and then the others, with its configuration; None: a new one.

    ``before`` and ``after``: the file's questions when it was read last, and now.
    """
    running, old = list(current), list(before)
    wanted: list[tuple[Query | None, QueryConfig]] = []
    for config in after:
        query = _take(running, [one.config.text for one in running], config.text)
        was = _take(old, [one.text for one in old], config.text)
        if was is None:
            wanted.append((query, config))
        elif query is not None:  # else it was withdrawn or has another text by now
            changed = replace(config, paused=query.config.paused)
            wanted.append((query, query.config if config == was else changed))
    for gone in old:
        _take(running, [one.config.text for one in running], gone.text)
    return wanted + [(query, query.config) for query in running]


def _take(items: list[_T], texts: Sequence[str], text: str) -> _T | None:
    """Remove from ``items`` the first one whose text is ``text``."""
    return items.pop(texts.index(text)) if text in texts else None
