"""``edge-run check --connect``: connect to every sink, the endpoint and every camera. No event is sent."""

from __future__ import annotations

import time
from collections.abc import Iterator

from edge_runtime.app.check import note
from edge_runtime.app.config_file import CameraConfig, Config
from edge_runtime.app.run import source_factory
from edge_runtime.errors import EdgeError, Finding, SinkError, SourceError
from edge_runtime.sinks.remote import RetryableError

PATIENCE_S = 15.0


def connect(config: Config) -> Iterator[Finding]:
    """A finding for every sink with another end, the endpoint and every camera, one by one."""
    for sink in config.sinks:
        began = time.monotonic()
        try:
            tried = sink.connect()
        except RetryableError as err:
            text = f"{sink.name} cannot be reached: {err}"
            yield note(config, sink.at, "fail", text, SinkError.exit_code)
        except EdgeError as err:
            yield note(config, sink.at, "fail", str(err), err.exit_code)
        else:
            took = (time.monotonic() - began) * 1000
            if tried:
                text = f"{sink.name} was reached in {took:.0f} ms; no event was sent"
                yield note(config, sink.at, "ok", text)
    yield from _endpoint(config)
    for index, camera in enumerate(config.cameras):
        began = time.monotonic()
        try:
            text = first_frame(camera)
        except (EdgeError, ImportError) as err:
            yield note(config, ("camera", index), "fail", str(err), SourceError.exit_code)
        else:
            took = time.monotonic() - began
            yield note(config, ("camera", index), "ok", f"{camera.name}: {text} after {took:.1f} s")


def _endpoint(config: Config) -> Iterator[Finding]:
    """The server is asked about one grey frame."""
    if not config.endpoint:
        return
    from edge_runtime.engine.endpoint.model import try_endpoint

    try:
        warning, took = try_endpoint(config.endpoint)
    except EdgeError as err:
        yield note(config, ("endpoint", "url"), "fail", str(err), err.exit_code)
        return
    if warning:
        yield note(config, ("endpoint", "model"), "warn", warning)
    text = f"{config.endpoint.model} answered about a grey frame after {took:.1f} s"
    yield note(config, ("endpoint", "url"), "ok", text)


def first_frame(camera: CameraConfig, patience_s: float = PATIENCE_S) -> str:
    """Say how the first frame was decoded. Raises SourceError, with the last cause the source gave."""
    opened = source_factory.try_camera(source_factory.parse(camera), camera.options)
    cause = "it says nothing"
    try:
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            item = opened.read(0.2)
            if item is None:
                continue
            if hasattr(item, "image"):
                return f"the first frame came, decoded by {opened.decoder}"
            cause = item.cause or item.state
            if item.state == "auth-failed":
                break
    except StopIteration:
        cause = "it ended without one"
    finally:
        opened.close()
    raise SourceError(f"{camera.name}: no frame came: {cause}")
