"""Cameras, streams and files through GStreamer.

    from pipelines.camera import Frame, StateChange, open_camera

Importing a module of this package loads no GStreamer. Opening a camera does, or says what to install.
"""
