"""What is found out about a source before each connection, and after a refusal that needs explaining."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from edge_runtime.errors import SourceError
from pipelines.sources import rtsp_probe
from pipelines.sources.devices import resolve
from pipelines.sources.errors import Problem
from pipelines.sources.http import probe as http_probe
from pipelines.sources.http import tls
from pipelines.sources.probe import check_reachable, in_background
from pipelines.sources.registry import DeviceSource, HttpSource, RtspSource, Source

_EXPLAIN_S = 3.0


def preflight(
    source: Source, trust: tls.Trust, timeout_s: float, cancelled: Callable[[], bool]
) -> Source | Problem:
    """``source`` with what is known about it now, or why there is no use in connecting."""
    if isinstance(source, DeviceSource):
        try:
            return resolve(source)
        except SourceError as error:
            return Problem(str(error), "", "permanent" if error.permanent else "transient")
    if not isinstance(source, (RtspSource, HttpSource)):
        return source
    problem = check_reachable(source.host, source.port, timeout_s, cancelled)
    if problem is None and source.location.startswith(("rtsps:", "https:")):
        problem = in_background(lambda: tls.check(source.host, source.port, trust, timeout_s), cancelled)
    if problem is not None:
        return problem
    return _ask(source, trust, timeout_s, cancelled) if isinstance(source, HttpSource) else source


def _ask(
    source: HttpSource, trust: tls.Trust, timeout_s: float, cancelled: Callable[[], bool]
) -> HttpSource | Problem:
    """A playlist is asked for each time, as what it leads to may have changed; anything else once."""
    before = source.found
    if before is not None and before.kind != "playlist":
        return source
    found = in_background(lambda: http_probe.ask(source, trust, timeout_s), cancelled)
    if found is None or isinstance(found, Problem):
        return found or source
    if before is not None:  # a live stream that has ended meanwhile is still read as one
        found = replace(found, live=before.live)
    return replace(source, found=found)


def in_detail(source: Source, problem: Problem, trust: tls.Trust) -> Problem:
    """``problem``; of a refused login, whether the password or GStreamer is to blame."""
    if isinstance(source, RtspSource) and source.user is not None and problem.kind == "auth":
        asked = rtsp_probe.login_asked_for(source, trust, _EXPLAIN_S)
        if asked:
            return http_probe.unsupported_login(asked)
    return problem
