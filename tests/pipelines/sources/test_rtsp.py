"""RTSP on loopback, against a real server that is slow to start, dies, freezes and asks for passwords."""

from __future__ import annotations

import base64
import gc
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import Camera, CameraOptions, Frame, StateChange, open_camera

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

FAST = CameraOptions(connect_timeout_s=10, stall_timeout_s=1.5, retry_first_s=0.1, retry_limit_s=0.3)


def age_ms(stamp: ModuleType, frame: Frame) -> int:
    """From the making of the frame in the server to now."""
    return int(time.monotonic() * 1000) % 2**32 - stamp.read(frame.image, 320, 240)


def read_for(camera: Camera, seconds: float) -> list[Frame | StateChange]:
    items: list[Frame | StateChange] = []
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if (item := camera.read(left)) is not None:
            items.append(item)
    return items


def read_until(camera: Camera, state: str, timeout_s: float = 15.0) -> list[Frame | StateChange]:
    items: list[Frame | StateChange] = []
    end = time.monotonic() + timeout_s
    while (left := end - time.monotonic()) > 0:
        if (item := camera.read(left)) is not None:
            items.append(item)
            if isinstance(item, StateChange) and item.state == state:
                return items
    raise AssertionError(f"never {state}: {[i for i in items if isinstance(i, StateChange)]}")


def frames_of(items: list[Frame | StateChange]) -> list[Frame]:
    return [item for item in items if isinstance(item, Frame)]


ONCE = replace(FAST, give_up_s=0)


def error_of(url: str, options: CameraOptions = ONCE) -> tuple[SourceError, list[str]]:
    states = []
    with pytest.raises(SourceError) as caught, open_camera(url, fps=1.0, options=options) as camera:
        for item in camera:
            if isinstance(item, StateChange):
                states.append(item.state)
    assert "\n" not in str(caught.value)
    assert states[0] == "connecting" and states[-1] == "failed"
    return caught.value, states


def test_real_time_without_drops(rtsp, stamp: ModuleType) -> None:
    with open_camera(rtsp.url, fps=1.0) as camera:
        read_until(camera, "live")
        items = read_for(camera, 4.5)
        assert camera.dropped == 0
        assert camera.decoder
        assert camera.description.startswith(f"rtsp {rtsp.url}, h264 320x240")
    frames = frames_of(items)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert len(frames) >= 3
    assert not [item for item in items if isinstance(item, StateChange)]


@pytest.mark.slow
def test_half_a_minute_in_real_time(rtsp, stamp: ModuleType) -> None:
    ages = []
    with open_camera(rtsp.url, fps=1.0) as camera:
        read_until(camera, "live")
        end = time.monotonic() + 30
        while time.monotonic() < end:
            if isinstance(item := camera.read(1.0), Frame):
                ages.append(age_ms(stamp, item))
        assert camera.dropped == 0
    assert len(ages) >= 29
    assert sorted(ages)[len(ages) // 2] < 200
    assert max(ages[5:]) < 600


def test_a_slow_consumer_sees_fresh_frames(rtsp, stamp: ModuleType) -> None:
    ages = []
    with open_camera(rtsp.url, fps=10.0) as camera:
        read_until(camera, "live")
        read_for(camera, 1.0)
        for _ in range(5):
            time.sleep(0.5)
            frame = next(item for item in camera if isinstance(item, Frame))
            ages.append(age_ms(stamp, frame))
        assert camera.dropped >= 10
    assert max(ages) < 500
    assert max(ages[-2:]) < max(ages[:2]) + 200  # not growing


def test_a_killed_server_comes_back_twice(start_rtsp: Callable, stamp: ModuleType) -> None:
    server = start_rtsp()
    items: list[Frame | StateChange] = []
    with open_camera(server.url, fps=2.0, options=FAST) as camera:
        items += read_until(camera, "live")
        for _ in range(2):
            items += read_for(camera, 1.0)
            server.kill()
            items += read_until(camera, "stalled", 5)
            items += read_for(camera, 0.4)
            server.start()
            items += read_until(camera, "live", 10)
            assert age_ms(stamp, next(i for i in camera if isinstance(i, Frame))) < 2000
        assert camera.reconnects == 2
        items += read_for(camera, 1.5)
    indices = [frame.index for frame in frames_of(items)]
    assert indices == sorted(set(indices)), "timesteps must go on"
    times = [frame.pts for frame in frames_of(items)]
    assert times == sorted(times)
    refused = [i.cause for i in items if isinstance(i, StateChange) and i.state == "connecting" and i.cause]
    assert any("refuses connections" in cause and "retrying" in cause for cause in refused)


def test_a_frozen_server_is_noticed_and_replaced(start_rtsp: Callable) -> None:
    server = start_rtsp()
    with open_camera(server.url, fps=5.0, options=FAST) as camera:
        read_until(camera, "live")
        read_for(camera, 0.5)
        server.freeze()
        frozen = time.monotonic()
        cause = read_until(camera, "stalled", 5)[-1].cause
        assert time.monotonic() - frozen < 3.5
        assert "no frame for 1.5 s" in cause
        server.thaw()
        read_until(camera, "live", 15)
        assert frames_of(read_for(camera, 1.0))


def test_closing_on_a_frozen_server_is_quick(start_rtsp: Callable) -> None:
    server = start_rtsp()
    with open_camera(server.url, fps=5.0, options=FAST) as camera:
        read_until(camera, "live")
        server.freeze()
        started = time.monotonic()
    assert time.monotonic() - started < 1.0
    server.thaw()


def test_opening_again_and_again_leaves_nothing_behind(rtsp) -> None:
    def use() -> None:
        with open_camera(rtsp.url, fps=5.0, options=FAST) as camera:
            next(item for item in camera if isinstance(item, Frame))

    use()
    gc.collect()
    files, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
    for _ in range(5):
        use()
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) <= files + 1
    assert threading.active_count() <= threads


def test_no_reconnect_when_told_so(start_rtsp: Callable) -> None:
    server = start_rtsp()
    options = CameraOptions(give_up_s=0)
    with pytest.raises(SourceError) as caught, open_camera(server.url, fps=5.0, options=options) as camera:
        read_until(camera, "live")
        server.kill()
        read_for(camera, 10)
    assert server.url in str(caught.value)


def test_refused(free_port: int) -> None:
    error, states = error_of(f"rtsp://127.0.0.1:{free_port}/cam")
    assert f"127.0.0.1 refuses connections on port {free_port}" in str(error)
    assert states == ["connecting", "failed"]


def test_unknown_host() -> None:
    error, _ = error_of("rtsp://no-such-camera.invalid/cam")
    assert "the name no-such-camera.invalid cannot be resolved" in str(error)


def test_not_found(rtsp) -> None:
    error, _ = error_of(rtsp.url.replace("/cam", "/elsewhere"))
    assert "404" in str(error)


def test_a_server_that_accepts_and_says_nothing() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as silent:
        options = CameraOptions(connect_timeout_s=1.0, give_up_s=0)
        started = time.monotonic()
        error, _ = error_of(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam", options)
    assert "no frame within 1 s" in str(error)
    assert time.monotonic() - started < 4


def test_not_an_rtsp_server() -> None:
    import http.server

    with http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        error, _ = error_of(f"rtsp://127.0.0.1:{server.server_port}/cam")
        server.shutdown()
    assert "broke off before any frame" in str(error) or "cannot open the stream" in str(error)


def test_credentials(start_rtsp: Callable) -> None:
    server = start_rtsp("--user", "viewer", "--password", "p@ss/w0rd")
    good = server.url.replace("//", "//viewer:p%40ss%2Fw0rd@")
    with open_camera(good, fps=5.0, options=FAST) as camera:
        read_until(camera, "live")
        assert "w0rd" not in camera.description

    for url in (server.url, server.url.replace("//", "//viewer:wr0ng-word@")):
        error, states = error_of(url)
        assert "401" in str(error)
        assert error.permanent
        assert "auth-failed" in states
        assert "wr0ng" not in str(error)

    options = CameraOptions(auth_retry_s=30)
    with open_camera(server.url, fps=5.0, options=options) as camera:
        assert "retrying in 30.0 s" in read_until(camera, "auth-failed")[-1].cause


def test_waiting_for_a_server_that_starts_late(start_rtsp: Callable) -> None:
    server = start_rtsp()
    server.kill()
    options = CameraOptions(retry_first_s=0.1, retry_limit_s=0.3)
    with open_camera(server.url, fps=5.0, options=options) as camera:
        read_for(camera, 0.5)
        server.start()
        read_until(camera, "live")
        assert frames_of(read_for(camera, 1.0))[0].pts < 1.0


WATCH = """
import sys
from pipelines.camera import CameraOptions, Frame, open_camera
try:
    with open_camera(sys.argv[1], fps=5.0, options=CameraOptions(give_up_s=0)) as camera:
        for item in camera:
            print(item if not isinstance(item, Frame) else item.pts)
            if isinstance(item, Frame):
                break
except Exception as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["right password", "wrong password", "token", "http"])
def test_no_credential_at_any_log_level(start_rtsp: Callable, kind: str) -> None:
    """GST_DEBUG=6 prints requests, headers and locations; none of ours may be among them."""
    server = start_rtsp("--user", "viewer", "--password", "s3cretword")
    word = {"wrong password": "wr0ngs3cret"}.get(kind, "s3cretword")
    url = server.url.replace("//", f"//viewer:{word}@")
    if kind == "token":
        url = f"{server.url}?token={word}"
    elif kind == "http":
        url = url.replace("rtsp://", "http://") + f".m3u8?token={word}"
    done = subprocess.run(
        [sys.executable, "-c", WATCH, url],
        capture_output=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[3],
        env={**os.environ, "GST_DEBUG": "6", "GST_DEBUG_NO_COLOR": "1"},
    )
    output = done.stdout + done.stderr
    assert len(output) > 100_000  # it did log
    assert word.encode() not in output
    assert base64.b64encode(f"viewer:{word}".encode()) not in output


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_hundredth_reconnect_is_as_quick_as_the_first(start_rtsp: Callable) -> None:
    """A server killed and started a hundred times: back in seconds each time, and nothing piles up."""
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    server = start_rtsp()
    back: list[float] = []
    memory: list[int] = []
    options = replace(FAST, stable_s=0.0)
    with open_camera(server.url, fps=5.0, options=options) as camera:
        read_until(camera, "live")
        for _ in range(100):
            server.kill()
            read_until(camera, "stalled", 10)
            server.start()
            started = time.monotonic()
            read_until(camera, "live", 20)
            back.append(time.monotonic() - started)
            memory.append(process.memory_info().rss)
        assert camera.reconnects == 100
    first, last = sorted(back[:20])[10], sorted(back[-20:])[10]
    assert last < first + 1.0, (first, last)
    assert sorted(back)[95] < 3.0
    growth = (sorted(memory[-10:])[5] - sorted(memory[20:30])[5]) / 1e6
    assert growth < 5, f"{growth:.1f} MB more after 70 reconnects"
