"""Real clips made by PyAV, and a real RTSP server on loopback. Nothing here reaches beyond this machine."""

from __future__ import annotations

import importlib.util
import signal
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.soak import rtsp_server

HERE = Path(__file__).parent


def _load_stamp() -> ModuleType:
    spec = importlib.util.spec_from_file_location("stamp", HERE / "stamp.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def stamp() -> ModuleType:
    """``stamp.draw`` and ``stamp.read``: a number inside a frame."""
    return _load_stamp()


def draw_frame(index: int, width: int, height: int) -> np.ndarray:
    """A coloured RGB frame that differs from its neighbours: slopes and a square that moves."""
    x, y = np.arange(width, dtype=np.uint32), np.arange(height, dtype=np.uint32)[:, None]
    image = np.empty((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = 255 * x // width, 255 * y // height
    image[..., 2] = np.abs((4 * (x + y + 2 * index)).astype(np.int32) % 510 - 255)
    side = height // 4
    left, top = (7 * index) % (width - side), (5 * index) % (height - side)
    image[top : top + side, left : left + side] = (255, 255, 40)
    return image


class ClipMaker:
    """Writes clips into a folder; the same request is made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made: dict[tuple[Any, ...], Path] = {}

    def __call__(
        self,
        name: str = "clip.mp4",
        *,
        fps: int = 10,
        size: tuple[int, int] = (640, 360),
        seconds: float = 5.0,
        codec: str = "libx264",
        sound_s: float = 0.0,
        draw: Callable[[int, int, int], np.ndarray] = draw_frame,
        options: dict[str, str] | None = None,
    ) -> Path:
        """A clip whose file name ends with ``name``: its ending names the container."""
        key = (name, fps, size, seconds, codec, sound_s, draw, tuple((options or {}).items()))
        if key not in self._made:
            path = self.folder / f"{len(self._made)}-{name}"
            _write_clip(path, fps, size, seconds, codec, sound_s, draw, options or {})
            self._made[key] = path
        return self._made[key]


def _write_clip(
    path: Path,
    fps: int,
    size: tuple[int, int],
    seconds: float,
    codec: str,
    sound_s: float,
    draw: Callable[[int, int, int], np.ndarray],
    options: dict[str, str],
) -> None:
    import av

    muxer = {"movflags": "faststart"} if path.suffix == ".mp4" else {}
    with av.open(str(path), "w", options=muxer) as container:
        video = None
        if seconds:
            video = container.add_stream(codec, rate=fps)
            video.width, video.height = size
            video.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            video.time_base = Fraction(1, 90_000)
            base = {"preset": "ultrafast", "g": str(fps), "bf": "2", "threads": "1"}
            video.options = {**(base if codec == "libx264" else {}), **options}
        sound = container.add_stream("aac", rate=48_000) if sound_s else None
        if video is not None:
            for index in range(round(seconds * fps)):
                frame = av.VideoFrame.from_ndarray(draw(index, *size), "rgb24")
                frame.pts, frame.time_base = index * 90_000 // fps, Fraction(1, 90_000)
                container.mux(video.encode(frame))
            container.mux(video.encode(None))
        if sound is not None:
            for index in range(round(sound_s * 48_000 / 1024)):
                frame = av.AudioFrame.from_ndarray(np.zeros((1, 2048), np.int16), "s16", "stereo")
                frame.sample_rate, frame.pts = 48_000, index * 1024
                frame.time_base = Fraction(1, 48_000)
                container.mux(sound.encode(frame))
            container.mux(sound.encode(None))


@pytest.fixture(scope="session")
def make_clip(tmp_path_factory: pytest.TempPathFactory) -> ClipMaker:
    return ClipMaker(tmp_path_factory.mktemp("clips"))


class RtspServer(rtsp_server.RtspServer):
    """The one of ``rtsp_server.py`` beside this file, whose frames are stamped; it can be frozen, too."""

    command = (sys.executable, str(HERE / "rtsp_server.py"))

    def freeze(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


@pytest.fixture(name="free_port")
def _free_port() -> int:
    """A port on which nothing listens."""
    return rtsp_server.free_port()


@pytest.fixture
def start_rtsp(_rtsp_possible: None) -> Iterator[Callable[..., RtspServer]]:
    """Start servers of one's own; all are killed at the end."""
    servers: list[RtspServer] = []

    def start(*arguments: str) -> RtspServer:
        servers.append(RtspServer(*arguments))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.kill()


@pytest.fixture(scope="module")
def rtsp(_rtsp_possible: None) -> Iterator[RtspServer]:
    """A server shared by the tests of one file that leave it alone."""
    server = RtspServer()
    server.start()
    yield server
    server.kill()
