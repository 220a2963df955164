"""An RTSP camera on loopback, in a process of its own that can be killed and started again on the same port.

    python -m tests.soak.rtsp_server PORT [--user U --password P] [--fps 15] [--size 320x240]

Serves a moving test pattern as H.264 at /cam and prints "ready" once it listens. With a user it asks for
digest authentication.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
from types import TracebackType
from typing import Any

import click

from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import SourceError

_START_S = 30.0


class RtspServer:
    """The server's process. ``url`` has no credentials; ``start`` and ``kill`` as often as wanted.

    ``command`` is run with the port and the ``arguments``; it says "ready" once it listens.
    """

    command = (sys.executable, "-m", __name__)

    def __init__(self, *arguments: str) -> None:
        self.port = free_port()
        self.url = f"rtsp://127.0.0.1:{self.port}/cam"
        self._arguments = arguments
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return once it listens. Raises SourceError when it does not."""
        self._process = subprocess.Popen(
            [*self.command, str(self.port), *self._arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        stdout = self._process.stdout
        assert stdout is not None
        heard, _, _ = select.select([stdout], [], [], _START_S)
        if not heard or stdout.readline().strip() != "ready":
            self.kill()
            raise SourceError(
                "the RTSP server does not start; it needs gir1.2-gst-rtsp-server-1.0 and "
                "gstreamer1.0-plugins-ugly (x264enc)"
            )

    def kill(self) -> None:
        """SIGKILL: no goodbye to its clients."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()

    def __enter__(self) -> RtspServer:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


def free_port() -> int:
    """A port on which nothing listens."""
    with contextlib.closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@click.command(help=(__doc__ or "").splitlines()[0])
@click.argument("port", type=click.IntRange(1, 65535))
@click.option("--user")
@click.option("--password", default="")
@click.option("--fps", type=click.IntRange(1, 240), default=15, show_default=True)
@click.option("--size", default="320x240", show_default=True, metavar="WxH")
def main(port: int, user: str | None, password: str, fps: int, size: str) -> None:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtspServer

    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(port))
    factory = GstRtspServer.RTSPMediaFactory()
    width, height = map(int, size.split("x"))
    caps = f"video/x-raw,format=I420,width={width},height={height},framerate={fps}/1"
    factory.set_launch(
        f"( videotestsrc is-live=true pattern=ball ! {caps} ! x264enc tune=zerolatency "
        f"speed-preset=ultrafast key-int-max={fps} threads=1 ! rtph264pay name=pay0 pt=96 )"
    )
    factory.set_shared(True)
    if user:
        _ask_for_password(GstRtspServer, server, factory, user, password)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        raise SourceError(f"port {port}: cannot listen there; give another one")
    print("ready", flush=True)
    GLib.MainLoop().run()


def _ask_for_password(rtsp: Any, server: Any, factory: Any, user: str, password: str) -> None:
    from gi.repository import GstRtsp

    auth, token = rtsp.RTSPAuth(), rtsp.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    permissions = rtsp.RTSPPermissions()
    for right in ("media.factory.access", "media.factory.construct"):
        permissions.add_permission_for_role("viewer", right, True)
    factory.set_permissions(permissions)


if __name__ == "__main__":
    run_command(main)
