"""Cameras, streams and files through GStreamer.

    from pipelines.camera import Frame, StateChange, open_camera

    import pipelines; pipelines.register()      # the element `streampro`, for pipelines of your own

Importing a module of this package loads no GStreamer (but for :mod:`pipelines.element.element`, which is one
of its elements). Opening a camera does, or says what to install.
"""

from __future__ import annotations

import edge_runtime  # noqa: F401  # first: it switches off the telemetry of other libraries


def register() -> None:
    """Make the element `streampro` known to GStreamer in this process.

    Raises SourceError that says what to install when GStreamer is missing.
    """
    from pipelines.gst import load

    load()
    from pipelines.element import element

    element.register()
