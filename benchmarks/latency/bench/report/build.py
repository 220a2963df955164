"""All of a measurement as one JSON object; ``report.schema.json`` says what is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from benchmarks.latency.bench.load.run import Run
from benchmarks.latency.bench.load.search import Trial
from benchmarks.latency.bench.load.warm_up import WarmUp
from benchmarks.latency.bench.report.statistics import (
    NOT_MEASURED,
    histogram,
    load_facts,
    shares,
    soak,
    stages,
    statistic,
    timeline,
)
from benchmarks.latency.facts import bundle_facts
from benchmarks.latency.quantiles import TAIL_NEEDS
from edge_runtime.engine.model import Model

FORMAT, VERSION = "streampro-latency", 1
CLOCK = {
    False: "monotonic, from the moment the frame was due by timetable to its decision",
    True: "monotonic, from the capture the camera's time stamp names to the decision",
}
CRITERION = (
    "no frame dropped and p99 of frame to decision under the frame interval; of fewer than 1000 frames the "
    "maximum stands for p99; a load that failed was tried once more"
)


@dataclass(frozen=True)
class Settings:
    source: str
    frame_size: tuple[int, ...]
    """Width and height of the source's frames."""
    rate: float
    streams: int
    duration_s: float
    speak_every: int
    backend: str
    threads: int | str
    window_turns: int
    live: bool = False
    catch_up: int = 0


@dataclass(frozen=True)
class Maximum:
    """What the search found; None (0 in the report): not even the smallest load was carried."""

    rate: float | None
    streams: int | None
    trials: Sequence[Trial]


@dataclass(frozen=True)
class Memory:
    """MB (10^6 bytes); None where the system does not say."""

    before_load: float | None
    loaded: float | None
    at_start: float | None
    at_end: float | None
    peak: float | None
    cache_bytes: int


@dataclass(frozen=True)
class Measurement:
    """All that was measured. ``rows``: of the cache in use per stream, before and after the run."""

    model: Model
    settings: Settings
    run: Run
    device: dict[str, Any]
    cold_start: dict[str, Any]
    warm: WarmUp
    memory: Memory
    rows: tuple[list[int], list[int]]
    sensors: dict[str, Any]
    roofline: dict[str, Any]
    maximum: Maximum | None
    soaked: bool


def build_report(found: Measurement) -> dict[str, Any]:
    """Return the report of a measurement."""
    model, run, memory, warm, samples = found.model, found.run, found.memory, found.warm, found.run.samples
    decisions = [sample.decision_ms for sample in samples]
    by_stage = {name: values for name, values in stages(samples).items() if values}
    asked = asdict(found.settings)
    live = asked.pop("live")
    report: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "settings": {**asked, "frame_size": list(found.settings.frame_size)},
        "device": found.device,
        "model": bundle_facts(model.bundle),
        "engine": model.backend,
        "cold_start": found.cold_start,
        "warm_up": {
            "steps": warm.steps,
            "seconds": round(warm.seconds, 3),
            "steady": warm.steady,
            "last_medians_ms": [round(value, 3) for value in warm.last_medians_ms],
        },
        "load": load_facts(run),
        "latency": {
            "clock": CLOCK[live],
            "decision_ms": statistic(decisions),
            "first_token_ms": statistic([s.first_token_ms for s in samples if s.first_token_ms is not None]),
            "token_ms": statistic([s.token_ms for s in samples if s.token_ms is not None]),
        },
        "stages_ms": {name: statistic(values) for name, values in by_stage.items()},
        "shares_ms": {name: share for name, share in shares(samples).items() if name in by_stage},
        "histograms": {
            "decision": histogram(decisions),
            **{name: histogram(values) for name, values in by_stage.items()},
        },
        "timeline": timeline(run),
        "memory": {
            "rss_mb_before_load": _mb(memory.before_load),
            "rss_mb_loaded": _mb(memory.loaded),
            "rss_mb_at_start": _mb(memory.at_start),
            "rss_mb_at_end": _mb(memory.at_end),
            "rss_mb_peak": _mb(memory.peak),
            "cache_mb_per_stream": round(memory.cache_bytes / 1e6, 3),
        },
        "context": {
            "capacity_rows": model.bundle.model.context_rows,
            "rows_at_start": found.rows[0],
            "rows_at_end": found.rows[1],
        },
        "sensors": found.sensors,
        "roofline": found.roofline,
        "maximum": NOT_MEASURED if found.maximum is None else _maximum(found.maximum),
        "soak": soak(run) if found.soaked else NOT_MEASURED,
    }
    report["remarks"] = remarks(report)
    return report


def remarks(report: dict[str, Any]) -> list[str]:
    """What a reader must know before he believes the numbers."""
    notes = []
    n, load, device = report["latency"]["decision_ms"]["n"], report["load"], report["device"]
    if n < TAIL_NEEDS:
        notes.append(f"p99 is not measured: it needs {TAIL_NEEDS} decisions, there are {n}; run it longer")
    if not report["warm_up"]["steady"]:
        notes.append("the machine did not become steady in the warm-up: expect other numbers the next time")
    busy = (device.get("load_before") or [0.0])[0]
    if busy > 0.5 * device.get("cores", 1):
        notes.append(f"the machine was busy beforehand (load {busy:.1f} on {device['cores']} cores)")
    if report["sensors"]["throttled"] is True:
        notes.append(
            "the machine was throttled while it was measured: the numbers are those of a hot machine"
        )
    if load["interrupted"]:
        notes.append("stopped before its end")
    share = report["roofline"]["share_of_floor"]
    if isinstance(share, float) and share > 1:
        notes.append("faster than the floor: the machine was slower when its rates were measured")
    if report["roofline"]["weights_fit_last_cache"] is True:
        notes.append(
            "the weights fit into the processor's last cache: memory bandwidth need not bound a step"
        )
    if report["latency"]["clock"] == CLOCK[True]:
        notes.append("decode is the time from capture to frame: transport, buffering and decoding together")
    if report["settings"]["source"] == "world":
        notes.append("world is the clip that comes with the program, looped and changed from lap to lap")
    return notes


def _mb(value: float | None) -> float | str:
    return NOT_MEASURED if value is None else round(value, 2)


def _maximum(found: Maximum) -> dict[str, Any]:
    return {
        "rate_one_stream": round(found.rate or 0.0, 2),
        "streams_at_rate": found.streams or 0,
        "criterion": CRITERION,
        "trials": [asdict(trial) for trial in found.trials],
    }
