"""A camera that gives one image for each request (``/snapshot.jpg``): asked once a timestep."""

from __future__ import annotations

import http.client
import threading
import time
import urllib.error
from typing import Any

from edge_runtime.errors import SourceError
from pipelines.gst import load, make
from pipelines.sources.base import Connect
from pipelines.sources.http.client import HttpClient
from pipelines.sources.network.source import NetworkSource
from pipelines.sources.network.tls import Trust

_TIMEOUT_S = 5.0
_LARGEST = 64 << 20
_SLICE_S = 0.05
_TYPES = {b"\xff\xd8\xff": "image/jpeg", b"\x89PN": "image/png"}


def snapshot_element(source: NetworkSource, trust: Trust, fps: float, connect: Connect) -> Any:
    """An appsrc that is fed by a thread of its own, which ends with the pipeline."""
    Gst = load().Gst
    client = HttpClient(source, trust, _TIMEOUT_S)
    element = make("appsrc", format=Gst.Format.TIME, is_live=True, max_buffers=2)
    started = threading.Event()

    def on_need(appsrc: Any, _size: int) -> None:
        if not started.is_set():
            started.set()
            arguments = (appsrc, client, source.location, 1 / fps)
            threading.Thread(target=_poll, args=arguments, name="camera-snapshots", daemon=True).start()

    connect(element, "need-data", on_need)
    return element


def _poll(appsrc: Any, client: HttpClient, url: str, step_s: float) -> None:
    """Fetch until the pipeline stops. Each image is stamped with the time at which it was asked for."""
    Gst = load().Gst
    began, asked, media_type = time.monotonic(), 0, ""
    while _wait_until(appsrc, began + asked * step_s):
        try:
            with client.get(url) as response:
                data = response.read(_LARGEST)
        except (OSError, http.client.HTTPException, ValueError, SourceError) as error:
            return _give_up(appsrc, url, error)
        found = _TYPES.get(data[:3], "")
        if not found:
            return _give_up(appsrc, url, ValueError("no JPEG or PNG image"))
        if found != media_type:
            media_type = found
            appsrc.set_property("caps", Gst.Caps.from_string(f"{found}, framerate=(fraction)0/1"))
        buffer = Gst.Buffer.new_wrapped(data)
        # On the even beat of the timesteps: a late answer must not move an image into the next one.
        due = began + asked * step_s
        buffer.pts = buffer.dts = max(0, round(due * Gst.SECOND) - appsrc.get_base_time())
        if appsrc.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            return
        asked = max(asked + 1, int((time.monotonic() - began) / step_s))


def _wait_until(appsrc: Any, due: float) -> bool:
    """False when the pipeline was stopped meanwhile."""
    null = load().Gst.State.NULL
    while (left := due - time.monotonic()) > 0:
        if appsrc.current_state == null:
            return False
        time.sleep(min(left, _SLICE_S))
    return bool(appsrc.current_state != null)


def _give_up(appsrc: Any, url: str, error: Exception) -> None:
    """Report it as souphttpsrc would; the supervisor connects again."""
    modules = load()
    Gst = modules.Gst
    code, text, debug = Gst.ResourceError.READ, str(error) or type(error).__name__, ""
    if isinstance(error, urllib.error.HTTPError):
        debug = f"{error.reason} ({error.code}), URL: {url}"
        error.close()
    failure = modules.GLib.Error.new_literal(Gst.ResourceError.quark(), text, code)
    appsrc.post_message(Gst.Message.new_error(appsrc, failure, debug))
