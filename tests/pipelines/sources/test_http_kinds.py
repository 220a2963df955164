"""What a URL does not show is asked of the server: recordings, playlists, cameras and snapshots."""

from __future__ import annotations

import base64
import hashlib
import io
import itertools
import re
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import CameraOptions, Frame, StateChange, open_camera
from tests.pipelines.http_server import Answer, Handler, Server, body, endless
from tests.pipelines.sources.test_http import make_hls

pytest.importorskip("gi")
pytestmark = pytest.mark.gst

FAST = CameraOptions(retry_first_s=0.1, retry_limit_s=0.3, connect_timeout_s=10)
ONCE = CameraOptions(give_up_s=0)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        yield made


def jpeg(shade: int) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (320, 240), (shade, shade, shade)).save(file, "jpeg")
    return file.getvalue()


def indices(url: str, *, fps: float = 1.0, pause_s: float = 0.0, options: CameraOptions = FAST) -> list[int]:
    """Of all frames of a source that ends."""
    found = []
    with open_camera(url, fps=fps, options=options) as camera:
        for item in camera:
            if isinstance(item, Frame):
                found.append(item.index)
                time.sleep(pause_s)
        assert not camera.live
    return found


def first_frames(url: str, count: int, fps: float = 5.0, options: CameraOptions = FAST) -> list[Frame]:
    """Of a live source."""
    with open_camera(url, fps=fps, options=options) as camera:
        frames = (item for item in camera if isinstance(item, Frame))
        found = list(itertools.islice(frames, count))
        assert camera.live
    return found


@pytest.mark.parametrize("name", ["clip.mp4", "clip.ts", "clip.mkv"])
def test_a_recording_is_known_by_its_length(
    server: Server, make_clip: Callable[..., Path], name: str
) -> None:
    """Whatever its URL looks like: nothing is dropped, however slowly it is watched."""
    data = make_clip(name, seconds=5).read_bytes()
    server.answers = {"/recordings?id=7": body(data), "/clip.ts": body(data, "video/mp2t")}
    for path in server.answers:
        found = indices(f"{server.url}{path}", pause_s=0.1)
        # Where a file's own time starts is another matter.
        assert len(found) >= 4 and found == list(range(found[0], found[0] + len(found))), path


def test_a_recording_without_ranges_or_type(server: Server, make_clip: Callable[..., Path]) -> None:
    data = make_clip("clip.mp4", seconds=3).read_bytes()

    def plain(handler: Handler) -> None:
        handler.head(200, Content_Length=str(len(data)))
        handler.wfile.write(data)

    server.answers["/video"] = plain
    assert indices(f"{server.url}/video", pause_s=0.1) == [0, 1, 2]


def test_a_stream_without_a_length_is_live(server: Server, make_clip: Callable[..., Path]) -> None:
    """Though it ends with .ts."""
    data = make_clip("clip.ts", seconds=8).read_bytes()
    server.answers["/live.ts"] = endless(data, 8.0, "video/mp2t")
    assert len(first_frames(f"{server.url}/live.ts", 3, fps=2.0)) == 3


def serve_folder(server: Server, folder: Path, playlist: bytes, media_type: str) -> None:
    for part in folder.glob("*.ts"):
        server.answers[f"/{part.name}"] = body(part.read_bytes(), "video/mp2t")
    server.answers["/watch"] = body(playlist, media_type)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with-bom"])
@pytest.mark.parametrize("media_type", ["application/vnd.apple.mpegurl", "text/plain"])
def test_a_playlist_is_known_by_its_bytes(
    server: Server, tmp_path: Path, mark: bytes, media_type: str
) -> None:
    make_hls(tmp_path, 4)
    serve_folder(server, tmp_path, mark + (tmp_path / "list.m3u8").read_bytes(), media_type)
    found = indices(f"{server.url}/watch", pause_s=0.3)
    assert len(found) >= 3 and found == list(range(found[0], found[0] + len(found)))


@pytest.mark.parametrize(
    ("lost", "words"), [(1, "stops at .* no such video"), (3, "its playlist names 3.9 s")]
)
def test_a_segment_that_is_missing_is_said(server: Server, tmp_path: Path, lost: int, words: str) -> None:
    make_hls(tmp_path, 4)
    serve_folder(server, tmp_path, (tmp_path / "list.m3u8").read_bytes(), "application/x-mpegurl")
    del server.answers[f"/part00{lost}.ts"]
    said = ""
    with suppress(SourceError), open_camera(f"{server.url}/watch", fps=2.0, options=FAST) as camera:
        for item in camera:
            said = item.cause if isinstance(item, StateChange) else said
    assert re.search(words, said)


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "with-bom"])
def test_a_playlist_that_grows_is_live(server: Server, tmp_path: Path, mark: bytes) -> None:
    make_hls(tmp_path, 8)
    lines = (tmp_path / "list.m3u8").read_text().replace("#EXT-X-ENDLIST", "").splitlines()
    parts = [index for index, line in enumerate(lines) if line.endswith(".ts")]
    began = time.monotonic()

    def growing(handler: Handler) -> None:
        shown = min(len(parts), 3 + int(time.monotonic() - began))
        text = "\n".join(lines[: parts[shown - 1] + 1]) + "\n"
        body(mark + text.encode(), "application/x-mpegurl")(handler)

    serve_folder(server, tmp_path, b"", "")
    server.answers["/watch"] = growing
    assert len(first_frames(f"{server.url}/watch", 12, fps=2.0)) == 12
    assert server.requests.count("/watch") > 3


def test_an_entry_that_is_sound_alone_is_not_taken(
    server: Server, tmp_path: Path, make_clip: Callable[..., Path]
) -> None:
    make_hls(tmp_path, 3)
    serve_folder(server, tmp_path, (tmp_path / "list.m3u8").read_bytes(), "application/x-mpegurl")
    server.answers["/sound.ts"] = body(make_clip("sound.ts", seconds=0, sound_s=3.0).read_bytes())
    server.answers["/sound.m3u8"] = body(
        b"#EXTM3U\n#EXT-X-TARGETDURATION:3\n#EXTINF:3.0,\nsound.ts\n#EXT-X-ENDLIST\n"
    )
    sound = '#EXT-X-STREAM-INF:BANDWIDTH=64000,CODECS="mp4a.40.2"\nsound.m3u8\n'
    unnamed = "#EXT-X-STREAM-INF:BANDWIDTH=64000\nsound.m3u8\n"
    video = '#EXT-X-STREAM-INF:BANDWIDTH=640000,RESOLUTION=320x240,CODECS="avc1.42c01e,mp4a.40.2"\nwatch\n'
    for first in (sound, unnamed):
        server.answers["/master"] = body(f"#EXTM3U\n{first}{video}".encode())
        assert len(indices(f"{server.url}/master")) >= 2

    server.answers["/master"] = body(f"#EXTM3U\n{sound}".encode())
    with pytest.raises(SourceError, match="there is no video in it") as caught:
        indices(f"{server.url}/master")  # not asked again and again
    assert caught.value.permanent


def mjpeg(first: bytes, jpegs: list[bytes], announced: str = "frame") -> Answer:
    """``first`` comes before the first part's headers."""

    def answer(handler: Handler) -> None:
        handler.head(200, f"multipart/x-mixed-replace; boundary={announced}")
        before = first
        for data in itertools.cycle(jpegs):
            head = f"Content-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
            handler.wfile.write(before + head.encode() + data + b"\r\n")
            before = b"--frame\r\n"
            time.sleep(0.05)

    return answer


@pytest.mark.parametrize("announced", ["frame", "--frame", "another"])
@pytest.mark.parametrize("first", [b"", b"\r\n", b"--frame\r\n"], ids=["missing", "empty-line", "whole"])
def test_mjpeg_without_its_first_boundary(server: Server, first: bytes, announced: str) -> None:
    server.answers["/video"] = mjpeg(first, [jpeg(shade) for shade in (40, 80, 120, 160)], announced)
    frames = first_frames(f"{server.url}/video", 5)
    assert [frame.index for frame in frames] == list(range(frames[0].index, frames[0].index + 5))
    assert frames[-1].image[112, 112, 0] in range(30, 170)


def test_a_snapshot_is_polled_at_the_rate_of_the_timesteps(server: Server) -> None:
    shades = itertools.count(20, 10)
    server.answers["/snapshot.jpg"] = lambda handler: body(jpeg(next(shades)), "image/jpeg")(handler)
    began = time.monotonic()
    frames = first_frames(f"{server.url}/snapshot.jpg", 8, fps=5.0)
    assert 1.2 < time.monotonic() - began < 8
    assert [frame.index for frame in frames] == list(range(frames[0].index, frames[0].index + 8))
    seen = [int(frame.image[112, 112, 0]) for frame in frames]
    assert seen == sorted(set(seen)) and len(seen) == 8  # each one fetched anew
    time.sleep(0.5)
    asked = len(server.requests)
    time.sleep(0.5)
    assert len(server.requests) == asked  # nobody asks once it is closed
    assert asked <= 8 + 4


def test_a_snapshot_that_fails_is_asked_for_again(server: Server) -> None:
    server.answers["/snapshot"] = body(jpeg(100), "image/jpeg")
    states = []
    with open_camera(f"{server.url}/snapshot", fps=5.0, options=FAST) as camera:
        for item in camera:
            if isinstance(item, StateChange):
                states.append(item)
            if len(states) == 2 and isinstance(item, Frame):
                server.answers["/snapshot"] = lambda handler: handler.head(503)
            if states[-1].state == "stalled":
                server.answers["/snapshot"] = body(jpeg(200), "image/jpeg")
            if [state.state for state in states].count("live") == 2:
                break
    assert any("503" in state.cause for state in states)


def digest(algorithm: str) -> str:
    return f'Digest realm="cam", nonce="n0nce", qop="auth", algorithm={algorithm}'


@pytest.mark.parametrize(
    "offered", [[digest("MD5")], [digest("SHA-256"), digest("MD5")], ['Basic realm="x"']]
)
def test_a_snapshot_behind_a_password(server: Server, offered: list[str]) -> None:
    """Of several logins offered, one that is known is taken."""

    def guarded(handler: Handler) -> None:
        if expected(handler.headers.get("Authorization", "")):
            return body(jpeg(100), "image/jpeg")(handler)
        handler.send_response(401)
        for challenge in offered:
            handler.send_header("WWW-Authenticate", challenge)
        handler.end_headers()

    def md5(text: str) -> str:
        return hashlib.md5(text.encode()).hexdigest()

    def expected(login: str) -> bool:
        if login.startswith("Basic"):
            return "Basic" in offered[0] and base64.b64decode(login[6:]) == b"viewer:s3cretword"
        parts = dict(re.findall(r'(\w+)="?([^",]+)', login))
        if not parts:
            return False
        middle = f"n0nce:{parts['nc']}:{parts['cnonce']}:auth"
        return parts["response"] == md5(f"{md5('viewer:cam:s3cretword')}:{middle}:{md5('GET:/snapshot')}")

    server.answers["/snapshot"] = guarded
    url = f"{server.url}/snapshot".replace("//", "//viewer:s3cretword@")
    assert len(first_frames(url, 3)) == 3
    with pytest.raises(SourceError, match="refuses the user name or password"):
        indices(url.replace("s3cretword", "wr0ngword"), options=ONCE)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0 no frame" * 9], ids=len)
def test_a_broken_frame_ends_nothing(server: Server, data: bytes) -> None:
    """A camera may send anything between two frames."""
    answers = itertools.chain([jpeg(100)] * 3, [data], itertools.repeat(jpeg(200)))
    server.answers["/snapshot"] = lambda handler: body(next(answers), "image/jpeg")(handler)
    with open_camera(f"{server.url}/snapshot", fps=5.0, options=FAST) as camera:
        end = time.monotonic() + 15
        for item in camera:
            if isinstance(item, Frame) and item.image[112, 112, 0] > 190:
                break
            assert time.monotonic() < end


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda h: h.head(401, WWW_Authenticate='Basic realm="x"'), "user name or password (401)"),
        (lambda h: h.head(403), "forbids access (403)"),
        (lambda h: h.head(404), "no such video (404)"),
        (lambda h: h.head(503), "answers 503 Service Unavailable"),
        (lambda h: h.head(302, Location="/x"), "redirects in a circle"),
        (body(b""), "empty (0 bytes)"),
        (body(b"<!DOCTYPE html><p>log in</p>", "text/html"), "no video but a page (text/html)"),
        (body(b"#EXTM3U\n#EXTINF:-1,News\nhttp://127.0.0.1/x\n"), "list of links"),
        (
            lambda h: h.head(401, WWW_Authenticate='Digest realm="x", nonce="n", algorithm=SHA-256'),
            "asks for SHA-256 digest authentication, which GStreamer does not have",
        ),
    ],
)
def test_what_the_server_says_is_passed_on(server: Server, answer: Answer, words: str) -> None:
    server.answers["/x"] = answer
    with pytest.raises(SourceError) as caught:
        indices(f"{server.url.replace('//', '//viewer:s3cretword@')}/x", options=ONCE)
    assert words in str(caught.value)
    assert "s3cretword" not in str(caught.value) and "\n" not in str(caught.value)
    assert len(server.requests) < 25
