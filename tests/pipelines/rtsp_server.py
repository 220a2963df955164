"""A small RTSP camera on loopback, run as its own process so that tests can kill or freeze it.

    python rtsp_server.py PORT [--user U --password P] [--fps 30] [--certificate C --key K]

Serves H.264 (several slices per frame) at /cam. Each frame holds the time of its making, see `stamp.py`.
Prints "ready" once it listens.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
import threading
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import Gio, GLib, Gst, GstRtspServer  # noqa: E402

_spec = importlib.util.spec_from_file_location("stamp", Path(__file__).with_name("stamp.py"))
stamp = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(stamp)

WIDTH, HEIGHT = 320, 240


def feed(source: Gst.Element, fps: float) -> None:
    """Push one stamped grey frame every 1/fps s until nobody takes them."""
    due = time.monotonic()
    while True:
        luma = stamp.draw(int(time.monotonic() * 1000), WIDTH, HEIGHT)
        data = luma.tobytes() + b"\x80" * (WIDTH * HEIGHT // 2)
        if source.emit("push-buffer", Gst.Buffer.new_wrapped(data)) != Gst.FlowReturn.OK:
            return
        due += 1 / fps
        time.sleep(max(0.0, due - time.monotonic()))


def on_media(_factory: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia, fps: float) -> None:
    """Feed once it asks: before that, appsrc refuses frames."""
    source = media.get_element().get_by_name("src")
    started = threading.Event()

    def on_need(*_: object) -> None:
        if not started.is_set():
            started.set()
            threading.Thread(target=feed, args=(source, fps), daemon=True).start()

    source.connect("need-data", on_need)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    parser.add_argument("--fps", type=float, default=30.0)
    arguments = parser.parse_args()
    Gst.init(None)

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(arguments.port))
    factory = GstRtspServer.RTSPMediaFactory()
    caps = f"video/x-raw,format=I420,width={WIDTH},height={HEIGHT},framerate={round(arguments.fps)}/1"
    factory.set_launch(
        f"( appsrc name=src is-live=true format=time do-timestamp=true max-buffers=2 leaky-type=downstream "
        f"caps={caps} ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 threads=2 ! "
        f"rtph264pay name=pay0 pt=96 )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", on_media, arguments.fps)
    if arguments.user or arguments.certificate:
        auth, token = GstRtspServer.RTSPAuth(), GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if arguments.user:
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(arguments.user, arguments.password), token)
        else:
            auth.set_default_token(token)
        if arguments.certificate:
            files = (arguments.certificate, arguments.key)
            auth.set_tls_certificate(Gio.TlsCertificate.new_from_files(*files))
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        for right in ("media.factory.access", "media.factory.construct"):
            permissions.add_permission_for_role("viewer", right, True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/cam", factory)
    if server.attach(None) == 0:
        sys.exit("cannot listen")
    print("ready", flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
