"""Write the responses into the frames and save them: `streampro`, then `textoverlay`, then an MP4.

python examples/overlay.py clip.mp4 "Tell me each step as it is finished." out.mp4

The events that `streampro` sends downstream set the text: they come in order among the frames.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import pipelines
from pipelines.gst import structure_of

pipelines.register()
from gi.repository import Gst  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Save a clip with the responses in its frames.")
    parser.add_argument("clip")
    parser.add_argument("query")
    parser.add_argument("out")
    parser.add_argument("--bundle", default="nano")
    parser.add_argument("--threshold", type=float, default=-1.0)
    arguments = parser.parse_args()

    pipeline = Gst.parse_launch(
        "filesrc name=file ! decodebin ! videoconvert ! identity sync=true ! streampro name=watch ! "
        "textoverlay name=text valignment=bottom shaded-background=true wait-text=false ! videoconvert ! "
        "video/x-raw,format=I420 ! x264enc speed-preset=ultrafast ! mp4mux ! filesink name=out"
    )
    pipeline.get_by_name("file").set_property("location", arguments.clip)
    pipeline.get_by_name("out").set_property("location", arguments.out)
    watch, text = pipeline.get_by_name("watch"), pipeline.get_by_name("text")
    for name in ("query", "bundle", "threshold"):
        watch.set_property(name, getattr(arguments, name))

    def on_event(_pad: Any, info: Any) -> Any:
        event = info.get_event()
        if event.has_name("streampro"):
            text.set_property("text", structure_of(event).get_value("text"))
        return Gst.PadProbeReturn.OK

    text.get_static_pad("video_sink").add_probe(Gst.PadProbeType.EVENT_DOWNSTREAM, on_event)
    pipeline.set_state(Gst.State.PLAYING)
    message = pipeline.get_bus().timed_pop_filtered(
        Gst.CLOCK_TIME_NONE, Gst.MessageType.ERROR | Gst.MessageType.EOS
    )
    failed = message.type == Gst.MessageType.ERROR
    if failed:
        print(f"error: {message.parse_error()[0].message}", file=sys.stderr)
    pipeline.set_state(Gst.State.NULL)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
