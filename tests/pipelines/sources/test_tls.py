"""Cameras whose certificates no authority signed: RTSP and HTTP over TLS from real servers on loopback."""

from __future__ import annotations

import gc
import hashlib
import itertools
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import pytest

from edge_runtime.errors import SourceError
from pipelines.camera import CameraOptions, Frame, open_camera
from pipelines.pipeline.connection import Connection
from tests.pipelines.conftest import RtspServer
from tests.pipelines.http_server import Server, body
from tests.pipelines.sources.test_http import make_hls
from tests.pipelines.sources.test_http_kinds import jpeg, mjpeg, serve_folder

pytest.importorskip("gi")
pytestmark = [
    pytest.mark.gst,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with openssl"),
]

ONCE = CameraOptions(give_up_s=0)


class Certificate(NamedTuple):
    file: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.file.read_text())).hexdigest()


def make_certificate(folder: Path, host: str, *, expired: bool = False) -> Certificate:
    """A self-signed one, as cameras make theirs."""
    made = Certificate(folder / f"{host}.pem", folder / f"{host}.key")
    dates = "-days 30"
    if expired:  # OpenSSL from 3.4 on refuses the one, before it does not know the other
        known = subprocess.run(["openssl", "x509", "-help"], check=True, capture_output=True).stderr
        dates = (
            "-days -1" if b"-not_after" not in known else "-not_before 200101000000Z -not_after 200201000000Z"
        )
    request, extensions = folder / "request.csr", folder / "extensions"
    extensions.write_text(f"subjectAltName={'IP' if host[0].isdigit() else 'DNS'}:{host}\n")
    for command in (
        f"req -new -newkey rsa:2048 -nodes -subj /CN={host} -keyout {made.key} -out {request}",
        f"x509 -req -in {request} -signkey {made.key} {dates} -extfile {extensions} -out {made.file}",
    ):
        subprocess.run(["openssl", *command.split()], check=True, capture_output=True)
    return made


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("own"), "127.0.0.1")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """For another host."""
    return make_certificate(tmp_path_factory.mktemp("foreign"), "camera.example")


@pytest.fixture(scope="module")
def expired(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("expired"), "127.0.0.1", expired=True)


@pytest.fixture(params=["https", "rtsps"])
def serve(
    request: pytest.FixtureRequest, make_clip: Callable[..., Path]
) -> Iterator[Callable[[Certificate], str]]:
    """Start a server that shows this certificate; the URL of its video."""
    with ExitStack() as stack:

        def start(certificate: Certificate) -> str:
            if request.param == "https":
                server = stack.enter_context(Server(certificate))
                server.answers["/clip"] = body(make_clip("clip.mp4", seconds=3).read_bytes())
                return f"{server.url}/clip"
            request.getfixturevalue("_rtsp_possible")
            camera = RtspServer("--certificate", str(certificate.file), "--key", str(certificate.key))
            stack.callback(camera.kill)
            camera.start()
            return camera.url.replace("rtsp:", "rtsps:")

        yield start


def first_frame(url: str, options: CameraOptions) -> Frame:
    with open_camera(url, fps=1.0, options=options) as camera:
        return next(item for item in camera if isinstance(item, Frame))


def refusal(url: str, options: CameraOptions = ONCE) -> str:
    with pytest.raises(SourceError) as caught:
        first_frame(url, options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_self_signed(serve: Callable[[Certificate], str], own: Certificate, foreign: Certificate) -> None:
    url = serve(own)
    message = refusal(url)
    assert "certificate is self-signed" in message
    assert f"--tls-fingerprint {own.fingerprint}" in message  # what the message says to do works
    for options in (
        replace(ONCE, tls_fingerprint=own.fingerprint),
        replace(ONCE, tls_ca_file=str(own.file)),
        replace(ONCE, tls_verify=False),
    ):
        assert first_frame(url, options).image.shape == (224, 224, 3)
    message = refusal(url, replace(ONCE, tls_fingerprint=foreign.fingerprint))
    assert f"not that of tls_fingerprint but {own.fingerprint}" in message
    assert "self-signed" in refusal(url, replace(ONCE, tls_ca_file=str(foreign.file)))


def test_another_host(serve: Callable[[Certificate], str], foreign: Certificate) -> None:
    url = serve(foreign)
    message = refusal(url, replace(ONCE, tls_ca_file=str(foreign.file)))
    assert "is for another address than 127.0.0.1" in message
    assert first_frame(url, replace(ONCE, tls_fingerprint=foreign.fingerprint)).index == 0


def test_expired(serve: Callable[[Certificate], str], expired: Certificate) -> None:
    url = serve(expired)
    assert "has expired" in refusal(url, replace(ONCE, tls_ca_file=str(expired.file)))
    assert first_frame(url, replace(ONCE, tls_fingerprint=expired.fingerprint)).index == 0


@pytest.mark.parametrize("trust", ["fingerprint", "file", "none"])
def test_every_connection_of_a_playlist(own: Certificate, tmp_path: Path, trust: str) -> None:
    """Playlist and segments come over connections of their own."""
    make_hls(tmp_path, 3)
    options = {
        "fingerprint": replace(ONCE, tls_fingerprint=own.fingerprint),
        "file": replace(ONCE, tls_ca_file=str(own.file)),
        "none": replace(ONCE, tls_verify=False),
    }[trust]
    with Server(own) as server:
        for part in tmp_path.iterdir():
            server.answers[f"/{part.name}"] = body(part.read_bytes())
        with open_camera(f"{server.url}/list.m3u8", fps=2.0, options=options) as camera:
            assert sum(isinstance(item, Frame) for item in camera) >= 5


def test_gstreamer_checks_the_fingerprint_too(
    own: Certificate, foreign: Certificate, make_clip: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever comes in between after the first look is refused as well."""
    monkeypatch.setattr("pipelines.sources.network.tls.check", lambda *_: None)
    monkeypatch.setattr("pipelines.sources.http.probe.ask", lambda *_, **__: None)
    with Server(own) as server:
        server.answers["/clip.mp4"] = body(make_clip("clip.mp4", seconds=3).read_bytes())
        refusal(f"{server.url}/clip.mp4", replace(ONCE, tls_fingerprint=foreign.fingerprint))
        assert server.requests == []
        first_frame(f"{server.url}/clip.mp4", replace(ONCE, tls_fingerprint=own.fingerprint))


def test_snapshots_are_fetched_with_the_same_trust(own: Certificate, foreign: Certificate) -> None:
    from PIL import Image

    file = BytesIO()
    Image.new("RGB", (64, 64)).save(file, "jpeg")
    with Server(own) as server:
        server.answers["/snapshot"] = body(file.getvalue(), "image/jpeg")
        options = replace(ONCE, tls_fingerprint=own.fingerprint)
        with open_camera(f"{server.url}/snapshot", fps=5.0, options=options) as camera:
            frames = (item for item in camera if isinstance(item, Frame))
            assert len(list(itertools.islice(frames, 3))) == 3
        count = len(server.requests)
        refusal(f"{server.url}/snapshot", replace(ONCE, tls_fingerprint=foreign.fingerprint))
        assert len(server.requests) == count  # no request, so no password either


def test_a_file_without_certificates(own: Certificate, tmp_path: Path) -> None:
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate")
    with Server(own) as server:
        for path, words in ((empty, "holds no certificate"), (tmp_path / "none.pem", "No such file")):
            message = refusal(f"{server.url}/clip", CameraOptions(tls_ca_file=str(path)))
            assert f"tls_ca_file {path} cannot be used" in message and words in message


def test_no_tls_at_that_port() -> None:
    with Server() as server:
        assert "does not speak TLS" in refusal(server.url.replace("http:", "https:") + "/clip")


def test_a_contradiction_is_refused() -> None:
    with pytest.raises(ValueError, match="without verification"):
        CameraOptions(tls_verify=False, tls_fingerprint="0" * 64)


@pytest.mark.parametrize("path", ["clip", "snapshot", "mjpeg", "watch"])
def test_what_was_opened_goes_without_the_collector(
    own: Certificate, tmp_path: Path, make_clip: Callable[..., Path], path: str
) -> None:
    """Connections, files and threads, with a fingerprint that GStreamer asks Python about."""
    make_hls(tmp_path, 2)
    options = replace(ONCE, tls_fingerprint=own.fingerprint)
    with Server(own) as server:
        serve_folder(server, tmp_path, (tmp_path / "list.m3u8").read_bytes(), "application/x-mpegurl")
        server.answers["/clip"] = body(make_clip("clip.mp4", seconds=3).read_bytes())
        server.answers["/snapshot"] = body(jpeg(100), "image/jpeg")
        server.answers["/mjpeg"] = mjpeg(b"", [jpeg(100)])

        def use() -> None:
            with open_camera(f"{server.url}/{path}", fps=5.0, options=options) as camera:
                next(item for item in camera if isinstance(item, Frame))

        def held() -> tuple[int, int, list[str]]:
            """Once the server, in this process as well, has closed its ends."""
            time.sleep(1.0)
            names = sorted(thread.name for thread in threading.enumerate() if "camera" in thread.name)
            connections = sum(isinstance(found, Connection) for found in gc.get_objects())
            return connections, len(os.listdir("/proc/self/fd")), names

        gc.collect()
        gc.disable()
        try:
            use()
            before = held()
            for _ in range(3):
                use()
            after = held()
        finally:
            gc.enable()
    assert after[0] <= before[0] and after[1] <= before[1] + 1 and after[2] == before[2]
