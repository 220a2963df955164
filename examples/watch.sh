#!/bin/sh
# Watch a clip with the element `streampro`; each response is a message on the bus, which -m shows.
#
#   sh examples/watch.sh clip.mp4 "Tell me each step as it is finished."
set -eu
clip=$1 query=$2
exec gst-launch-1.0 -m filesrc location="$clip" ! decodebin ! videoconvert ! identity sync=true \
    ! streampro bundle="${BUNDLE:-nano}" query="$query" threshold="${THRESHOLD:--1}" ! fakesink
