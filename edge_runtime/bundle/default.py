"""The bundle that ``edge-run`` and the GStreamer element take when none is named."""

DEFAULT_BUNDLE = "scout"
