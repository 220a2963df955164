"""Live sources on this machine: pace, drops, interruption, and nothing left behind."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import Camera, CameraOptions, Frame, StateChange, open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst


def take(camera: Camera, count: int, pause_s: float = 0.0) -> list[tuple[Frame, float]]:
    """``count`` frames and their age on arrival in seconds."""
    got: list[tuple[Frame, float]] = []
    for item in camera:
        if isinstance(item, Frame):
            got.append((item, time.monotonic() - item.captured_at))
            if len(got) == count:
                break
            time.sleep(pause_s)
    return got


def test_test_pattern() -> None:
    with open_camera("test:", fps=10.0) as camera:
        changes = [next(camera), next(camera)]
        assert [c.state for c in changes if isinstance(c, StateChange)] == ["connecting", "live"]
        got = take(camera, 5)
        assert camera.live
        assert camera.description == "test pattern test:ball, raw 640x480"
        assert (camera.dropped, camera.decoder) == (0, "none")
    assert [frame.index for frame, _ in got] == list(range(5))
    assert got[0][0].image.shape == (224, 224, 3)
    assert not np.array_equal(got[0][0].image, got[4][0].image)  # the ball moves
    assert min(age for _, age in got) < 0.1


def test_patterns_by_name() -> None:
    with open_camera("test:red", fps=10.0) as camera:
        frame, _ = take(camera, 1)[0]
    assert frame.image[112, 112].tolist() == pytest.approx([255, 0, 0], abs=3)


def test_a_slow_consumer_gets_the_newest_and_age_stays_bounded() -> None:
    with open_camera("test:", fps=15.0) as camera:
        got = take(camera, 6, pause_s=0.3)
        dropped, longest = camera.dropped, camera.longest_drop_run
    assert dropped >= 10
    assert longest >= 3
    ages = [age for _, age in got[1:]]
    assert max(ages) < 0.2  # one timestep (0.067 s) and some; never the 0.3 s of the consumer, never growing
    indices = [frame.index for frame, _ in got]
    assert indices == sorted(set(indices))


def test_a_consumer_that_is_busy_for_a_while_catches_up() -> None:
    with open_camera("test:", fps=15.0, options=CameraOptions(catch_up=12)) as camera:
        before = take(camera, 2)
        time.sleep(0.6)  # a response is written: nine frames come
        after = take(camera, 14)
        assert camera.dropped == 0
    assert [frame.index for frame, _ in before + after] == list(range(16))
    assert after[0][1] > 0.4  # the first has waited, the last no longer than usual
    assert after[-1][1] < 0.2


def test_catching_up_has_a_bound() -> None:
    with open_camera("test:", fps=15.0, options=CameraOptions(catch_up=3)) as camera:
        take(camera, 1)
        time.sleep(0.8)
        got = take(camera, 4)
        dropped = camera.dropped
    assert dropped >= 5
    assert [frame.index - got[0][0].index for frame, _ in got] == [0, 1, 2, 3]
    assert got[0][0].index == 1 + dropped
    assert got[0][1] < 0.5  # four timesteps and some


def test_a_consumer_that_keeps_up_loses_nothing() -> None:
    with open_camera("test:", fps=10.0) as camera:
        got = take(camera, 12, pause_s=0.05)
        assert camera.dropped == 0
    assert [frame.index for frame, _ in got] == list(range(12))


ITERATE = """
import time
from pipelines.camera import open_camera
try:
    with open_camera("test:", fps=0.1) as camera:
        print("open", flush=True)
        list(camera)
except KeyboardInterrupt:
    print(time.monotonic(), flush=True)
"""


@pytest.mark.parametrize("delay_s", [0.02, 0.3])
def test_ctrl_c_is_answered_within_200_ms(delay_s: float) -> None:
    program = [sys.executable, "-c", ITERATE]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "open\n"
        time.sleep(delay_s)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        answered, messages = process.communicate(timeout=10.0)
    assert (process.returncode, messages) == (0, "")
    assert float(answered) - pressed < 0.2


def test_close_from_another_thread_ends_the_iteration() -> None:
    camera = open_camera("test:", fps=0.1)
    closed = 0.0

    def close() -> None:
        nonlocal closed
        closed = time.monotonic()
        camera.close()

    threading.Timer(0.3, close).start()
    items = list(camera)
    assert time.monotonic() - closed < 0.2
    assert [item.state for item in items if isinstance(item, StateChange)] == ["connecting", "live"]


def test_read_with_a_timeout() -> None:
    with open_camera("test:", fps=0.1) as camera:
        while camera.read(0.5) is not None:
            pass
        started = time.monotonic()
        assert camera.read(0.05) is None
        assert time.monotonic() - started < 0.15
    with pytest.raises(StopIteration):
        camera.read(0.05)


@pytest.mark.parametrize("kind", ["live", "file", "bad file"])
def test_thirty_cameras_leave_nothing_behind(
    kind: str, make_clip: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.mp4").write_bytes(b"nothing of use\n" * 100)
    clip = make_clip("clip.mp4", size=(320, 180), seconds=2)
    source = {"live": "test:", "file": str(clip), "bad file": str(tmp_path / "bad.mp4")}[kind]

    def use() -> None:
        with suppress(SourceError), open_camera(source, fps=30.0) as camera:
            take(camera, 1)

    for _ in range(3):
        use()
    gc.collect()
    files, tasks = len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
    threads = threading.active_count()
    for _ in range(30):
        use()
    gc.collect()
    time.sleep(0.2)
    assert len(os.listdir("/proc/self/fd")) <= files + 1
    assert threading.active_count() <= threads
    assert len(os.listdir("/proc/self/task")) <= tasks + 2


def test_no_camera_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    from pipelines.sources.v4l2 import devices

    if devices.list_cameras():
        monkeypatch.setattr(devices, "list_cameras", list)  # hardware we have, for once
    with pytest.raises(SourceError, match="no camera found on this machine; try `edge-run sample`") as caught:
        open_camera("camera0", fps=1.0, options=CameraOptions(give_up_s=0))
    assert not caught.value.permanent


def test_a_device_file_that_is_not_there() -> None:
    with pytest.raises(SourceError, match="/dev/video987: no such camera"):
        open_camera("/dev/video987", fps=1.0, options=CameraOptions(give_up_s=0))


def test_waiting_for_a_camera_that_is_not_there_yet() -> None:
    options = CameraOptions(retry_first_s=0.1, retry_limit_s=0.1)
    causes = []
    with open_camera("/dev/video987", fps=1.0, options=options) as camera:
        for item in camera:
            assert isinstance(item, StateChange)
            causes.append(item.cause)
            if len(causes) == 4:
                break
    assert "no such camera" in causes[1]
    assert "retrying in 0.1 s" in causes[1]
