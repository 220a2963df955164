"""``edge-run check --connect``: is there somebody at the other end? No event is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edge_runtime import redaction
from edge_runtime.app.check import Finding, note, receiver_places, without_secrets
from edge_runtime.app.run import source_factory
from edge_runtime.config.schema import CameraConfig, Config
from edge_runtime.errors import EdgeError, SinkError, SourceError
from edge_runtime.sinks.registry import open_transport
from edge_runtime.sinks.remote import Unavailable

PATIENCE_S = 15.0


def connect(config: Config) -> Iterator[Finding]:
    """A finding for every receiver and camera, as they are tried, one after the other."""
    for at, receiver in receiver_places(config):
        began = time.monotonic()
        try:
            transport = open_transport(receiver, redaction.register, announce=False)
            try:
                transport.reach()
            finally:
                transport.close()
        except Unavailable as err:
            yield note(config, at, "fail", f"{receiver.name} cannot be reached: {err}", SinkError.exit_code)
        except EdgeError as err:
            yield note(config, at, "fail", without_secrets(err), err.exit_code)
        else:
            took = (time.monotonic() - began) * 1000
            yield note(config, at, "ok", f"{receiver.name} was reached in {took:.0f} ms; no event was sent")
    for index, camera in enumerate(config.cameras):
        began = time.monotonic()
        try:
            told = first_picture(camera)
        except (EdgeError, ImportError) as err:
            yield note(config, ("camera", index), "fail", without_secrets(err), SourceError.exit_code)
        else:
            took = time.monotonic() - began
            yield note(config, ("camera", index), "ok", f"{camera.name}: {told} after {took:.1f} s")


def first_picture(camera: CameraConfig, patience_s: float = PATIENCE_S) -> str:
    """Words on the first picture. Raises SourceError, with the last thing the source said."""
    opened = source_factory.try_camera(source_factory.parse(camera), camera.options)
    cause = "it says nothing"
    try:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            item = opened.read(0.2)
            if item is None:
                continue
            if hasattr(item, "image"):
                return f"the first picture came, decoded by {opened.decoder}"
            cause = item.cause or item.state
            if item.state == "auth-failed":
                break
    except StopIteration:
        cause = "it ended without one"
    finally:
        opened.close()
    raise SourceError(f"{camera.name}: no picture came: {cause}")
