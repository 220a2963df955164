"""Serve a watched clip on over RTSP: one branch to `streampro`, one to the viewers.

python examples/rtsp_relay.py clip.mp4 "Tell me each step as it is finished." [--port 8554]

Prints the address once it serves; each response is printed as it comes. Needs gir1.2-gst-rtsp-server-1.0.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import gi

import pipelines
from pipelines.gst import structure_of

pipelines.register()
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

PIPELINE = (
    "( filesrc name=file ! decodebin ! videoconvert ! tee name=t "
    "t. ! queue ! streampro name=watch ! fakesink sync=true async=false "
    "t. ! queue ! video/x-raw,format=I420 ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=15 ! "
    "rtph264pay name=pay0 pt=96 )"
)


def main() -> int:
    parser = argparse.ArgumentParser(description="Watch a clip and serve it over RTSP.")
    parser.add_argument("clip")
    parser.add_argument("query")
    parser.add_argument("--port", type=int, default=8554)
    parser.add_argument("--bundle", default="nano")
    parser.add_argument("--threshold", type=float, default=-1.0)
    arguments = parser.parse_args()

    def on_media(_factory: Any, media: Any) -> None:
        element = media.get_element()
        element.get_by_name("file").set_property("location", arguments.clip)
        watch = element.get_by_name("watch")
        for name in ("query", "bundle", "threshold"):
            watch.set_property(name, getattr(arguments, name))
        watch.get_static_pad("src").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, on_event)

    def on_event(_pad: Any, info: Any) -> Any:
        if info.get_event().has_name("streampro"):
            print(structure_of(info.get_event()).get_value("text"), flush=True)
        return Gst.PadProbeReturn.OK

    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(str(arguments.port))
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(PIPELINE)
    factory.set_shared(True)
    factory.connect("media-configure", on_media)
    server.get_mount_points().add_factory("/watched", factory)
    if server.attach(None) == 0:
        print(f"error: port {arguments.port} is taken; choose another with --port", file=sys.stderr)
        return 1
    print(f"rtsp://127.0.0.1:{arguments.port}/watched", flush=True)
    GLib.MainLoop().run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
