"""HTTP and HLS from a real server on loopback; the playlists are made by GStreamer."""

from __future__ import annotations

import base64
import functools
import http.server
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import CameraOptions, Frame, StateChange, open_camera
from pipelines.gst import load
from pipelines.sources.http.source import HttpSource
from pipelines.sources.registry import parse_source

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

FAST = CameraOptions(retry_first_s=0.1, retry_limit_s=0.3, connect_timeout_s=10)


class Handler(http.server.SimpleHTTPRequestHandler):
    """Files of one folder, behind a password when the server has one, and ``/live.mjpg``."""

    server: Server

    def do_GET(self) -> None:
        wanted = self.server.credentials
        if wanted and self.headers.get("Authorization") != wanted:
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="camera"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path == "/live.mjpg":
            return self._stream()
        super().do_GET()

    def _stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for index in range(10_000):
                data = self.server.jpegs[index % len(self.server.jpegs)]
                head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
                self.wfile.write(head.encode() + data + b"\r\n")
                time.sleep(0.05)
        except OSError:
            pass

    def log_message(self, *_: object) -> None:
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    credentials = ""
    jpegs: list[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path))) as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


def make_hls(folder: Path, seconds: int) -> None:
    """A finished playlist of one-second segments."""
    Gst = load().Gst
    pipeline = Gst.parse_launch(
        f"videotestsrc num-buffers={seconds * 10} pattern=ball ! "
        "video/x-raw,format=I420,width=320,height=240,framerate=10/1 ! "
        "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 threads=1 ! h264parse ! "
        "hlssink2 name=h target-duration=1 playlist-length=0 max-files=0"
    )
    sink = pipeline.get_by_name("h")
    sink.set_property("location", str(folder / "part%03d.ts"))
    sink.set_property("playlist-location", str(folder / "list.m3u8"))
    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.EOS | Gst.MessageType.ERROR
    message = pipeline.get_bus().timed_pop_filtered(30 * Gst.SECOND, kinds)
    assert message is not None and message.type == Gst.MessageType.EOS
    pipeline.set_state(Gst.State.NULL)


def test_a_playlist_with_an_end(server: Server, tmp_path: Path) -> None:
    """Read like a file, to its end; no frame is dropped."""
    make_hls(tmp_path, 4)
    with open_camera(f"{server.url}/list.m3u8", fps=2.0, options=FAST) as camera:
        items = list(camera)
        assert not camera.live
        assert camera.description.startswith(f"hls {server.url}/list.m3u8, h264 320x240, decoder ")
    frames = [item for item in items if isinstance(item, Frame)]
    assert len(frames) >= 7
    assert frames[0].image.shape == (224, 224, 3)
    last = items[-1]
    assert isinstance(last, StateChange) and last.state == "ended"
    assert last.cause.startswith("end of the file at ")


def test_a_playlist_that_goes_away_and_comes_back(server: Server, tmp_path: Path) -> None:
    make_hls(tmp_path, 3)
    text = (tmp_path / "list.m3u8").read_text().replace("#EXT-X-ENDLIST", "")
    (tmp_path / "list.m3u8").write_text(text)
    with open_camera(
        f"{server.url}/list.m3u8", fps=2.0, options=CameraOptions(stall_timeout_s=2, retry_first_s=0.1)
    ) as camera:
        states: list[str] = []
        end = time.monotonic() + 25
        while states.count("live") < 2 and time.monotonic() < end:
            item = camera.read(1.0)
            if isinstance(item, StateChange):
                states.append(item.state)
        assert states[:2] == ["connecting", "live"]
        assert "stalled" in states
        assert states.count("live") >= 2


def test_credentials_reach_playlist_and_segments(server: Server, tmp_path: Path) -> None:
    make_hls(tmp_path, 2)
    server.credentials = "Basic " + base64.b64encode(b"viewer:p@ss/w0rd").decode()
    url = server.url.replace("//", "//viewer:p%40ss%2Fw0rd@")
    with open_camera(f"{url}/list.m3u8", fps=2.0, options=FAST) as camera:
        items = list(camera)
        assert "w0rd" not in camera.description
    assert sum(isinstance(item, Frame) for item in items) >= 2

    once = CameraOptions(give_up_s=0)
    wrong = server.url.replace("//", "//viewer:wr0ngword@")
    with (
        pytest.raises(SourceError, match="refuses the user name or password") as caught,
        open_camera(f"{wrong}/list.m3u8", fps=2.0, options=once) as camera,
    ):
        list(camera)
    assert "wr0ngword" not in str(caught.value)


def test_a_recorded_file_is_read_whole(
    server: Server, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    (tmp_path / "clip.mp4").write_bytes(make_clip("clip.mp4", seconds=5).read_bytes())
    with open_camera(f"{server.url}/clip.mp4", fps=1.0) as camera:
        assert not camera.live
        frames = []
        for item in camera:
            if isinstance(item, Frame):
                frames.append(item.index)
                time.sleep(0.1)
    assert frames == [0, 1, 2, 3, 4]


def test_a_camera_that_sends_mjpeg(server: Server) -> None:
    from io import BytesIO

    from PIL import Image

    server.jpegs = []
    for shade in (40, 80, 120, 160):
        file = BytesIO()
        Image.new("RGB", (320, 240), (shade, shade, shade)).save(file, "jpeg")
        server.jpegs.append(file.getvalue())
    with open_camera(f"{server.url}/live.mjpg", fps=5.0, options=FAST) as camera:
        frames = []
        for item in camera:
            if isinstance(item, Frame):
                frames.append(item)
                if len(frames) == 5:
                    break
        assert camera.live
        assert "jpeg 320x240, decoder jpegdec" in camera.description
    assert [frame.index for frame in frames] == list(range(5))
    assert frames[-1].image[112, 112, 0] in range(30, 170)


def test_what_is_wrong_is_said(server: Server, free_port: int, tmp_path: Path) -> None:
    once = CameraOptions(give_up_s=0)
    (tmp_path / "page.html").write_text("<html>no video here</html>" * 50)
    for url, words in (
        (f"{server.url}/none.mp4", "no such video (404)"),
        (f"{server.url}/page.html", "no video"),
        (f"http://127.0.0.1:{free_port}/x.m3u8", "refuses connections"),
    ):
        with pytest.raises(SourceError) as caught, open_camera(url, fps=1.0, options=once) as camera:
            list(camera)
        assert words in str(caught.value), url
        assert "\n" not in str(caught.value)


def test_urls() -> None:
    source = parse_source("https://viewer:s3samename@cam.local/path/list.m3u8?token=abcdef99")
    assert isinstance(source, HttpSource)
    assert (source.user, source.password, source.port) == ("viewer", "s3samename", 443)
    assert (source.live, source.segmented, source.kind) == (True, True, "hls")
    assert "s3samename" not in repr(source) + source.label
    assert "abcdef99" not in repr(source) + source.label
    recorded = parse_source("http://host/clip.MP4")
    assert isinstance(recorded, HttpSource)
    assert (recorded.live, recorded.kind) == (False, "http")
