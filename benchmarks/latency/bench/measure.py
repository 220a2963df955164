"""One benchmark from the loading of the model to the finished report."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import edge_runtime
from benchmarks.latency.bench.load.cameras import run_cameras
from benchmarks.latency.bench.load.clip import WORLD, WORLD_CLIP, LoopedClip
from benchmarks.latency.bench.load.run import NextFrame, Run, run_open_loop
from benchmarks.latency.bench.load.search import Trial, highest_rate, highest_streams, judge
from benchmarks.latency.bench.load.warm_up import WarmUp, warm_up
from benchmarks.latency.bench.load.watcher import Watcher
from benchmarks.latency.bench.report.build import Maximum, Measurement, Memory, Settings, build_report
from benchmarks.latency.bench.roofline import cache_bytes, roofline
from benchmarks.latency.bench.sensors import Sensors
from benchmarks.latency.facts import machine_facts, peak_resident_mb, resident_mb
from benchmarks.latency.frames import Frames
from edge_runtime.backends.select import default_threads
from edge_runtime.backends.spinning import Spinning
from edge_runtime.engine.model import Model
from edge_runtime.errors import ConfigError, SourceError

CAMERA_SCHEMES = ("rtsp://", "rtsps://")
MAX_RATE = 1000.0
TRIAL_FRAMES = 10
"""A trial is no shorter than so many frames."""


@dataclass(frozen=True)
class Plan:
    """What is asked for on the command line."""

    bundle: str = "nano"
    backend: str = "auto"
    threads: int | None = None
    spinning: Spinning = "run"
    window_turns: int | None = None
    """None: the bundle's."""
    source: str = WORLD
    rate: float = 10.0
    streams: int = 1
    duration_s: float = 120.0
    speak_every: int = 50
    catch_up: int = 0
    warm_up_s: float = 60.0
    """At most, for the first stream."""
    soak: bool = False
    find_max: bool = False
    trial_s: float = 10.0
    max_streams: int = 32


@dataclass
class Sources:
    """The streams' frames, opened as they are needed."""

    source: str
    size: tuple[int, int]
    """Height and width of the model's frames."""
    clips: list[LoopedClip] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.source.startswith(CAMERA_SCHEMES)

    def clip(self, stream: int) -> LoopedClip:
        path = WORLD_CLIP if self.source == WORLD else Path(self.source)
        while len(self.clips) <= stream:
            self.clips.append(LoopedClip(path, first_lap=100 * len(self.clips)))
        return self.clips[stream]

    def warm_up_frames(self, stream: int) -> NextFrame:
        """A camera's warm-up shows noise: its own frames come at its own pace."""
        if not self.live:
            return self.clip(stream).next
        frames, numbers = Frames(self.size), iter(range(1 << 60))
        return lambda: frames(next(numbers))

    def frame_size(self) -> tuple[int, ...]:
        """Width and height as they reach the model's preprocessing."""
        return (self.size[1], self.size[0]) if self.live else self.clip(0).size


def check_source(source: str) -> None:
    """Raises SourceError for what cannot be played, before anything is loaded."""
    if source.startswith(CAMERA_SCHEMES):
        return
    if "://" in source:
        raise SourceError(f"{source}: no source of a benchmark; give world, a video file or rtsp://")
    if source != WORLD and not Path(source).is_file():
        raise SourceError(f"{source!r}: no such file; give world, a video file or rtsp://")
    LoopedClip(WORLD_CLIP if source == WORLD else Path(source)).next()


def with_window(model: Model, turns: int | None) -> Model:
    """The same loaded model that keeps ``turns`` turns only: what it costs with a context of so many rows.

    Blocks of the same share leave at once. Raises ConfigError for more turns than the bundle keeps.
    """
    stream_format = model.stream_format
    if turns is None:
        return model
    if turns > stream_format.window_turns:
        raise ConfigError(
            f"--window-turns {turns}: {model.bundle.name} keeps {stream_format.window_turns}; choose fewer"
        )
    changed = copy.copy(model)
    block = max(1, stream_format.evict_turns * turns // stream_format.window_turns)
    changed.stream_format = replace(stream_format, window_turns=turns, evict_turns=block)
    return changed


Say = Callable[[str], None]


def measure(plan: Plan, say: Say) -> dict[str, Any]:
    """Run ``plan``; ``say`` gets a line for each phase. Ctrl-C during the run ends it early, with a report.

    Raises BundleError, BackendError, SourceError or ConfigError.
    """
    check_source(plan.source)
    sensors = Sensors()
    device = machine_facts()
    before_load = resident_mb()
    say(f"loading {plan.bundle}")
    begin = time.monotonic()
    model = edge_runtime.load(plan.bundle, threads=plan.threads, backend=plan.backend, spinning=plan.spinning)
    load_s = time.monotonic() - begin
    loaded = resident_mb()
    model = with_window(model.with_fps(plan.rate), plan.window_turns)
    sources = Sources(plan.source, model.bundle.model.image_size)
    watcher = Watcher(model, plan.speak_every)
    try:
        watcher.add_stream()
        first_ms = watcher.show(0, sources.warm_up_frames(0)()).decision_ms
        warm = _warm_up(plan, watcher, sources, say)
        at_start, rows_before = resident_mb(), watcher.rows(plan.streams)
        sensors.start()
        try:
            run = _run(plan, watcher, sources, say)
        finally:
            readings = sensors.stop()
        rows = (rows_before, watcher.rows(plan.streams))
        memory = Memory(
            before_load,
            loaded,
            at_start,
            resident_mb(),
            peak_resident_mb(),
            cache_bytes(model.bundle, model.bundle.decoder),
        )
        maximum = None
        if plan.find_max and not run.interrupted:
            maximum = find_maximum(plan, watcher, sources, say)
        say("measuring the machine's memory bandwidth and arithmetic")
        threads = plan.threads or default_threads()
        roof = roofline(
            model.bundle,
            model.bundle.decoder,
            max(rows[1]),
            watcher.chunk_rows,
            _graphs_ms(run),
            threads,
            ", cpu," in model.backend,
        )
    finally:
        watcher.close()
    found = Measurement(
        model,
        Settings(
            plan.source,
            sources.frame_size(),
            plan.rate,
            plan.streams,
            plan.duration_s,
            plan.speak_every,
            plan.backend,
            threads,
            model.stream_format.window_turns,
            sources.live,
            plan.catch_up,
        ),
        run,
        device={**device, **sensors.gpu},
        cold_start={
            "load_s": round(load_s, 4),
            "first_timestep_ms": round(first_ms, 3),
            "note": "in this process, with the bundle's files in the system's file cache or not, as it was",
        },
        warm=warm,
        memory=memory,
        rows=rows,
        sensors=readings,
        roofline=roof,
        maximum=maximum,
        soaked=plan.soak,
    )
    return build_report(found)


def _warm_up(plan: Plan, watcher: Watcher, sources: Sources, say: Say) -> WarmUp:
    """The first stream until it is steady, the others until their windows are full."""
    say("warming up until steady, with a full window")
    frame = sources.warm_up_frames(0)
    warm = warm_up(
        lambda: watcher.show(0, frame()).decision_ms,
        watcher.full_after,
        plan.warm_up_s,
        time.monotonic,
        done=1,
    )
    _add_streams(plan.streams, watcher, sources, say)
    return warm


def _add_streams(streams: int, watcher: Watcher, sources: Sources, say: Say) -> None:
    while watcher.streams < streams:
        stream = watcher.streams
        say(f"filling the window of stream {stream + 1} of {streams}")
        watcher.add_stream()
        frame = sources.warm_up_frames(stream)
        for _ in range(watcher.full_after):
            watcher.show(stream, frame())


def _run(plan: Plan, watcher: Watcher, sources: Sources, say: Say) -> Run:
    watcher.next_run()

    def on_second(elapsed: float, done: int) -> None:
        say(f"measuring: {max(0.0, elapsed):.0f} of {plan.duration_s:g} s, {done} decisions")

    if sources.live:
        height, width = sources.size
        return run_cameras(
            plan.source,
            plan.rate,
            plan.streams,
            plan.duration_s,
            (width, height),
            watcher.step,
            on_second,
            catch_up=plan.catch_up,
        )
    frames = [sources.clip(stream).next for stream in range(plan.streams)]
    return run_open_loop(plan.rate, plan.duration_s, frames, watcher.step, on_second, catch_up=plan.catch_up)


def find_maximum(plan: Plan, watcher: Watcher, sources: Sources, say: Say) -> Maximum:
    """The highest rate of one stream, and the most streams at the plan's rate. A load that fails is tried
    once more: one hiccup of the machine must not decide.
    """
    trials: list[Trial] = []

    def carried(rate: float, streams: int) -> bool:
        _add_streams(streams, watcher, sources, say)
        for _ in range(2):
            say(f"searching: {streams} streams at {rate:.2f} fps")
            watcher.next_run()
            frames = [sources.clip(stream).next for stream in range(streams)]
            duration_s = max(plan.trial_s, TRIAL_FRAMES / (rate * streams))
            run = run_open_loop(rate, duration_s, frames, watcher.step)
            if run.interrupted:
                raise KeyboardInterrupt
            trials.append(judge(run))
            if trials[-1].carried:
                return True
        return False

    lowest = min(1.0, plan.rate)
    rate = highest_rate(lambda rate: carried(rate, 1), lowest, MAX_RATE)
    streams = highest_streams(lambda streams: carried(plan.rate, streams), plan.max_streams)
    return Maximum(rate, streams, trials)


def _graphs_ms(run: Run) -> float | None:
    """Median of what both graphs take in a timestep."""
    both: Sequence[float] = sorted(s.stages_ms["vision"] + s.stages_ms["append"] for s in run.samples)
    return both[len(both) // 2] if both else None
