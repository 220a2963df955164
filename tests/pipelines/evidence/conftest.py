"""Clips recorded from real sources, and a look into them."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from pipelines.camera import Camera, CameraOptions, Frame, open_camera
from pipelines.evidence.ring import Footage


@dataclass
class Seen:
    """What one frame led to."""

    frame: Frame
    clip: Any
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class Recorder:
    """Reads a source and records clips about some of its timesteps."""

    pre_s: float = 1.0
    post_s: float = 1.0
    footage: Footage = field(default_factory=lambda: Footage(pre_s=1.0))

    def options(self, **more: Any) -> CameraOptions:
        return CameraOptions(evidence=self.footage, **more)

    def record(self, frame: Frame) -> Seen:
        seen = Seen(frame, None)
        seen.clip = frame.moment.record(self.pre_s, self.post_s, lambda _clip: seen.done.set())
        return seen

    def watch(
        self,
        source: Path | str,
        about: Callable[[Frame], bool],
        *,
        fps: float = 1.0,
        until: Callable[[list[Seen]], bool] = lambda seen: False,
        on_frame: Callable[[Camera, Frame], None] = lambda camera, frame: None,
        **options: Any,
    ) -> list[Seen]:
        """Record clips of the frames that ``about`` chooses, until the source ends or ``until`` says so."""
        seen: list[Seen] = []
        end = time.monotonic() + 60
        with open_camera(str(source), fps=fps, options=self.options(**options)) as camera:
            for item in camera:
                if isinstance(item, Frame):
                    on_frame(camera, item)
                    if about(item):
                        seen.append(self.record(item))
                    if until(seen):
                        break
                assert time.monotonic() < end, "the source gives too little"
        return seen


@pytest.fixture
def recorder() -> Recorder:
    return Recorder()


@dataclass
class Played:
    """A clip as ffmpeg's decoders play it; times in seconds from its start."""

    times: list[float]
    frames: list[np.ndarray]
    """``uint8 [H, W, 3]`` RGB."""
    packets: list[bytes]
    codec: str

    def at(self, time_s: float) -> np.ndarray:
        """What is on screen then."""
        index = int(np.searchsorted(self.times, time_s + 1e-3, side="right")) - 1
        return self.frames[max(0, index)]


def play(path: Path) -> Played:
    """Decode a file; it must be playable without an error."""
    import av

    checked = subprocess.run(
        ["ffprobe", "-v", "error", "-show_format", "-of", "json", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert checked.returncode == 0 and not checked.stderr, checked.stderr
    assert abs(float(json.loads(checked.stdout)["format"]["start_time"])) < 0.002
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        played = Played([], [], [], stream.codec_context.name)
        for packet in container.demux(stream):
            if packet.size:
                played.packets.append(bytes(packet))
            for frame in packet.decode():
                played.times.append(float(frame.pts * frame.time_base))
                played.frames.append(frame.to_ndarray(format="rgb24"))
    return played


def write(seen: Seen, path: Path) -> Played:
    assert seen.clip is not None and seen.done.wait(10), "the clip never ended"
    seen.clip.write(path)
    head = path.read_bytes()[:64]
    assert b"moov" in head, "the index is not in front"
    return play(path)


def draw_number(stamp: ModuleType) -> Callable[[int, int, int], np.ndarray]:
    """Frames that hold their index."""

    def draw(index: int, width: int, height: int) -> np.ndarray:
        return np.repeat(stamp.draw(index, width, height)[..., None], 3, axis=2)

    return draw
