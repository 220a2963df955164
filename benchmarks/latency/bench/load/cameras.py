"""Frames of a network camera as arrivals: the camera sets the pace, and its time stamps say what was due."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from benchmarks.latency.bench.load.open_loop import Arrival, Schedule, Slots
from benchmarks.latency.bench.load.run import OnSecond, Run, run_feeders
from benchmarks.latency.bench.load.watcher import Sample

_POLL_S = 0.2
_PATIENCE_S = 20.0
"""How long a camera may take to its first frame, and be away later."""


def run_cameras(
    address: str,
    rate: float,
    streams: int,
    duration_s: float,
    size: tuple[int, int],
    step: Callable[[Arrival], Sample],
    on_second: OnSecond = lambda elapsed, done: None,
    *,
    catch_up: int = 0,
) -> Run:
    """Watch ``address`` over ``streams`` connections for ``duration_s`` from the first frame of all on.

    ``size``: width and height of the frames. Raises SourceError when the camera fails or stays away.
    """
    from pipelines.camera import CameraOptions, Frame, open_camera

    with ExitStack() as stack:
        options = CameraOptions(give_up_s=_PATIENCE_S)
        cameras: list[Any] = [
            stack.enter_context(open_camera(address, fps=rate, size=size, options=options))
            for _ in range(streams)
        ]
        for camera in cameras:
            while not isinstance(camera.read(_POLL_S), Frame):
                pass
        schedule = Schedule(rate, streams, time.monotonic(), duration_s)
        before = [camera.dropped for camera in cameras]

        def feeder(stream: int, slots: Slots, stop: threading.Event) -> None:
            camera, dropped = cameras[stream], before[stream]
            while not stop.is_set() and time.monotonic() < schedule.end:
                try:
                    item = camera.read(_POLL_S)
                except StopIteration:
                    return
                for _ in range(camera.dropped - dropped):  # replaced before this thread could fetch them
                    slots.never_came(stream, time.monotonic())
                dropped = camera.dropped
                # Frames of a backlog from before the start belong to no measurement.
                if isinstance(item, Frame) and item.captured_at >= schedule.start:
                    ready = time.monotonic()
                    slots.put(Arrival(stream, item.index, item.captured_at, ready, item.image))

        return run_feeders(schedule, feeder, step, on_second, None, catch_up=catch_up)
