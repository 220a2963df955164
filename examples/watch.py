"""Watch a clip with the element `streampro` and print each response.

python examples/watch.py clip.mp4 "Tell me each step as it is finished." [--bundle nano] [--threshold 0.5]
"""

from __future__ import annotations

import argparse
import sys

import pipelines
from pipelines.gst import structure_of

pipelines.register()
from gi.repository import Gst  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description="Print each response.")
    parser.add_argument("clip")
    parser.add_argument("query")
    parser.add_argument("--bundle", default="nano")
    parser.add_argument("--threshold", type=float, default=-1.0)
    arguments = parser.parse_args()

    pipeline = Gst.parse_launch(
        "filesrc name=file ! decodebin ! videoconvert ! identity sync=true ! streampro name=watch ! fakesink"
    )
    pipeline.get_by_name("file").set_property("location", arguments.clip)  # never part of the text above
    watch = pipeline.get_by_name("watch")
    for name in ("query", "bundle", "threshold"):
        watch.set_property(name, getattr(arguments, name))

    pipeline.set_state(Gst.State.PLAYING)
    kinds = Gst.MessageType.ELEMENT | Gst.MessageType.ERROR | Gst.MessageType.EOS
    code = 0
    while True:
        message = pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, kinds)
        if message.type == Gst.MessageType.EOS:
            break
        if message.type == Gst.MessageType.ERROR:
            print(f"error: {message.parse_error()[0].message}", file=sys.stderr)
            code = 1
            break
        said = structure_of(message)
        if said.get_name() == "streampro":
            print(f"{said.get_value('pts_end') / Gst.SECOND:7.1f} s  {said.get_value('text')}", flush=True)
    pipeline.set_state(Gst.State.NULL)
    return code


if __name__ == "__main__":
    sys.exit(main())
