"""``[evidence]`` and ``[camera.evidence]`` of edge-run.toml: snapshots and clips of responses."""

from __future__ import annotations

from functools import partial

from edge_runtime.config.table import Table
from edge_runtime.events.evidence_config import CLIP, EvidenceConfig, EvidenceSettings, Retention

_MOST_S = 600.0


def read_evidence(table: Table) -> EvidenceConfig:
    """``[evidence]``."""
    days = table.positive("keep_days", None, 1e6)
    megabytes = table.positive("keep_megabytes", None)
    count = table.whole("keep_count", None, lambda n: n >= 1, "a whole number of events from 1")
    return EvidenceConfig(
        table.path("folder"),
        Retention(
            None if days is None else days * 86400.0,
            count,
            None if megabytes is None else max(1, int(megabytes * (1 << 20))),
        ),
        read_settings(table, EvidenceSettings()),
    )


def read_settings(table: Table, base: EvidenceSettings) -> EvidenceSettings:
    """The keys that ``[evidence]`` and ``[camera.evidence]`` have in common; ``base`` gives the rest."""
    clip = table.text("clip", base.clip)
    if clip not in CLIP:
        table.wrong("clip", f"expected one of {', '.join(CLIP)}, got {clip!r}")
        clip = base.clip
    return EvidenceSettings(
        _seconds(table, "pre", base.pre_s),
        _seconds(table, "post", base.post_s),
        table.flag("snapshot", base.snapshot),
        clip,
        int(table.positive("buffer_megabytes", base.buffer_bytes / (1 << 20)) * (1 << 20)),
    )


def read_camera_settings(table: Table, base: EvidenceSettings) -> EvidenceSettings:
    """``[camera.evidence]``, on top of ``[evidence]``."""
    return table.table("evidence", partial(read_settings, base=base))


def _seconds(table: Table, key: str, default: float) -> float:
    return table.number(key, default, lambda value: 0 <= value <= _MOST_S, f"seconds from 0 to {_MOST_S:g}")
