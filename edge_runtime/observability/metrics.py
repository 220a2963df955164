"""Prometheus metrics and health over HTTP: ``/metrics``, ``/health/live``, ``/health/ready``.

The default is loopback: nothing here is secret, but it shows how often a camera responds. Requests are served
by threads of their own from figures that the run keeps anyway.

``live``: the loop of the run makes steps; a service manager restarts a process whose loop does not.
``ready``: every stream had a frame decided on, or left out as still, within the last seconds; a camera that
is away makes it 503, and restarting would not help. A camera that has ended is not counted; one that has
failed makes it 503 until the run ends.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Protocol

from edge_runtime.errors import SinkError
from edge_runtime.observability.telemetry import Histogram, Telemetry

LIVE_WITHIN_S = 60.0
"""A loop without a step for so long hangs: a timestep takes seconds at most on the slowest device."""
READY_TIMESTEPS = 5
"""Timesteps that may pass without a decision, and at least :data:`READY_AT_LEAST_S`."""
READY_AT_LEAST_S = 10.0

_NO_FRAMES = "no frames"
_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_REQUEST_TIMEOUT_S = 5.0
_REQUESTS = {
    "requests": "Requests sent to the endpoint.",
    "failed": "Requests without a usable reply.",
    "dropped": "Windows a newer one replaced before they were sent.",
    "limited": "Of those, held back by an hourly limit.",
    "tokens_in": "Tokens of requests, as the server counts them.",
    "tokens_out": "Tokens of replies.",
}


class Counters(Protocol):
    """What is read of a camera."""

    @property
    def dropped(self) -> int: ...

    @property
    def reconnects(self) -> int: ...


class Sink(Protocol):
    """What is read of a sink."""

    @property
    def name(self) -> str: ...

    def counts(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class StreamMetrics:
    """One stream, as the endpoint sees it."""

    name: str
    fps: float
    telemetry: Telemetry
    camera: Counters

    def ready_within_s(self) -> float:
        return max(READY_AT_LEAST_S, READY_TIMESTEPS / self.fps)


class MetricsPages:
    """The pages of metrics and health, for either server."""

    def __init__(
        self,
        streams: Sequence[StreamMetrics],
        sinks: Sequence[Sink] = (),
        *,
        requests: Callable[[], dict[str, int]] = dict,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``streams`` is read at each request: it may change meanwhile."""
        self._requests = requests
        self._streams = streams
        self._sinks = sinks
        self._clock = clock

    def answer(self, path: str) -> tuple[int, str]:
        """Status and text for a request's path."""
        path = path.partition("?")[0]
        if path == "/metrics":
            return 200, render(tuple(self._streams), self._sinks, self._clock(), self._requests())
        if path == "/health/live":
            return self._health(
                "the loop stands still", lambda s: s.telemetry.last_step, lambda s: LIVE_WITHIN_S
            )
        if path == "/health/ready":
            return self._health(_NO_FRAMES, lambda s: s.telemetry.last_frame, StreamMetrics.ready_within_s)
        return 404, "see /metrics, /health/live and /health/ready\n"

    def _health(
        self,
        problem: str,
        moment: Callable[[StreamMetrics], float | None],
        within_s: Callable[[StreamMetrics], float],
    ) -> tuple[int, str]:
        lines = []
        for stream in tuple(self._streams):
            seen = moment(stream)
            if stream.telemetry.ended:
                if problem == _NO_FRAMES and stream.telemetry.ended != "well":
                    lines.append(f"{stream.name}: failed")
            elif seen is None:
                lines.append(f"{stream.name}: {problem} yet")
            elif (age := self._clock() - seen) > within_s(stream):
                lines.append(f"{stream.name}: {problem} for {age:.0f} s")
        return (503, "\n".join([*lines, ""])) if lines else (200, "ok\n")


class MetricsServer:
    """Serves until :meth:`close`. Port 0 takes a free one, see ``address``. SinkError if it cannot listen."""

    def __init__(self, host: str, port: int, pages: MetricsPages) -> None:
        try:
            self._server = _server_class(host)((host, port), _handler(pages))
        except (OSError, UnicodeError) as err:
            reason = getattr(err, "strerror", None) or str(err)
            raise SinkError(
                f"cannot serve metrics at {host}:{port}: {reason}; give --metrics another address"
            ) from err
        self.address = f"{host}:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def render(
    streams: Iterable[StreamMetrics], sinks: Iterable[Sink], now: float, requests: Mapping[str, int] = {}
) -> str:
    """The metrics in Prometheus' text format; ``now`` is of the clock of the telemetry.

    ``requests``: what the server of an endpoint was asked.
    """
    page = _Page()
    for stream in streams:
        telemetry, labels = stream.telemetry, {"stream": stream.name}
        page.add("timesteps_total", "counter", "Frames decided on.", labels, telemetry.timesteps)
        page.add("skipped_total", "counter", "Timesteps without a frame.", labels, telemetry.skipped)
        page.add(
            "still_total", "counter", "Timesteps left out: the scene stood still.", labels, telemetry.still
        )
        page.add("responses_total", "counter", "Responses sent out.", labels, telemetry.responses)
        for reason, count in sorted(telemetry.suppressed.copy().items()):
            page.add(
                "suppressed_total", "counter", "Responses held back.", {**labels, "reason": reason}, count
            )
        page.add("dropped_total", "counter", "Frames a newer one replaced.", labels, stream.camera.dropped)
        page.add(
            "reconnects_total", "counter", "Times the source came back.", labels, stream.camera.reconnects
        )
        if telemetry.last_frame is not None:
            age = now - telemetry.last_frame
            page.add(
                "last_frame_age_seconds",
                "gauge",
                "Since the last frame decided on or left out as still.",
                labels,
                age,
            )
        stages = {
            **telemetry.stages.copy(),
            "decision": telemetry.decision,
            "first_text": telemetry.first_text,
        }
        for stage, histogram in sorted(stages.items()):
            page.add_histogram(
                "latency_seconds",
                "Parts of a timestep; decision and first_text count from the frame.",
                {**labels, "stage": stage},
                histogram,
            )
    for name, count in requests.items():
        page.add(f"endpoint_{name}_total", "counter", _REQUESTS[name], {}, count)
    for sink in sinks:
        if counts := sink.counts():
            labels = {"sink": sink.name}
            page.add("outbox_depth", "gauge", "Events that wait to be sent.", labels, counts["waiting"])
            page.add("delivered_total", "counter", "Events acknowledged.", labels, counts["delivered"])
            page.add("events_lost_total", "counter", "Events dropped or refused.", labels, counts["lost"])
    return page.text()


class _Page:
    """Collects samples by metric: the format wants those of one metric together."""

    def __init__(self) -> None:
        self._metrics: dict[str, list[str]] = {}

    def add(self, name: str, kind: str, about: str, labels: dict[str, str], value: float) -> None:
        number = f"{value:.3f}" if isinstance(value, float) else f"{value}"
        self._lines(name, kind, about).append(f"edge_run_{name}{_labels(labels)} {number}")

    def add_histogram(self, name: str, about: str, labels: dict[str, str], histogram: Histogram) -> None:
        lines = self._lines(name, "histogram", about)
        counts, total = histogram.cumulative([bound * 1e3 for bound in _BOUNDS_S])
        for bound, count in zip((*_BOUNDS_S, "+Inf"), (*counts, total), strict=True):
            lines.append(f"edge_run_{name}_bucket{_labels({**labels, 'le': str(bound)})} {count}")
        lines.append(f"edge_run_{name}_sum{_labels(labels)} {histogram.sum_ms / 1e3:.6f}")
        lines.append(f"edge_run_{name}_count{_labels(labels)} {total}")

    def text(self) -> str:
        return "".join(f"{line}\n" for lines in self._metrics.values() for line in lines)

    def _lines(self, name: str, kind: str, about: str) -> list[str]:
        return self._metrics.setdefault(
            name, [f"# HELP edge_run_{name} {about}", f"# TYPE edge_run_{name} {kind}"]
        )


def _labels(labels: dict[str, str]) -> str:
    if not labels:
        return ""
    escaped = (
        (name, value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n"))
        for name, value in labels.items()
    )
    return "{" + ",".join(f'{name}="{value}"' for name, value in escaped) + "}"


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    import socket

    class Server(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        daemon_threads = True
        block_on_close = False

        def server_bind(self) -> None:
            # HTTPServer's own looks up this machine's name: a DNS query that nothing here needs.
            TCPServer.server_bind(self)

        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that closed its connection is no error."""

    return Server


def _handler(pages: MetricsPages) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _REQUEST_TIMEOUT_S
        server_version, sys_version = "edge-run", ""

        def do_GET(self) -> None:
            self.wfile.write(self._send_head())

        def do_HEAD(self) -> None:
            self._send_head()

        def _send_head(self) -> bytes:
            """Status and headers; the body that belongs to them, which HEAD leaves out."""
            status, text = pages.answer(self.path)
            body = text.encode("utf-8", "replace")
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            return body

        def log_message(self, format: str, *args: Any) -> None:
            """Do not log requests."""

    return Handler
