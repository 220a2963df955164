"""Cameras, streams and files through GStreamer.

    from pipelines.camera import Frame, StateChange, open_camera

Importing any module of this package loads no GStreamer; opening a camera does, and says what to install without.
"""
