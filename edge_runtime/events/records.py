"""Event records (JSON Lines): responses, stream states, queries, statistics, each with a unique, stable id.

A live source's events carry the wall-clock time and latencies. A recording's events carry neither: the same
file, queries and model give the same bytes on every run. Ids: :mod:`edge_runtime.events.numbering`.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from edge_runtime.events.numbering import EventIds, round_seconds

Event = dict[str, Any]

# Control characters that JSON leaves alone but terminals obey or line readers split on, and lone surrogates
# (undecodable bytes of a command line), which UTF-8 cannot hold.
_UNSAFE = re.compile("[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Response:
    """A response of the model that the policy lets through."""

    id: str
    """Unique and stable; see :mod:`edge_runtime.events.numbering`."""
    query: str
    """Id of the query it answers."""
    question: str
    """That query's text."""
    time: float
    """Seconds of the stream: the end of the interval it is about."""
    interval: tuple[float, float]
    text: str
    score: float
    latency_ms: Mapping[str, float]
    """From the frame: ``decision``, ``first_token``, ``total``."""
    delegation: bool = False
    """Whether ``text`` is a task for another model instead of something said. The policy does not apply."""


class EventMaker:
    """Builds the events of one stream; ``identity`` as of :class:`EventIds`."""

    def __init__(
        self, stream: str, identity: str | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self.stream = stream
        self.ids = EventIds(stream, identity, now=now)
        self.live = self.ids.live
        self._now = now

    def response(self, response: Response) -> Event:
        """The model responded to a query after a frame's interval."""
        event: Event = {
            "type": "delegation" if response.delegation else "response",
            "id": response.id,
            "stream": self.stream,
            "query": response.query,
            "question": response.question,
            "time": round_seconds(response.time),
            "interval": [round_seconds(second) for second in response.interval],
            **self._wall_time(),
            "text": response.text,
            "score": round(response.score, 4),
        }
        if self.live:
            event["latency_ms"] = {name: round(value, 1) for name, value in response.latency_ms.items()}
        return event

    def state(self, state: str, cause: str, time_s: float) -> Event:
        """The stream is now connecting, live, stalled, ended or failed; ``cause`` says why in words."""
        event = self._start("stream", time_s, (state,))
        return event | self._wall_time() | {"state": state, "cause": cause}

    def query(self, action: str, query: str, text: str, time_s: float) -> Event:
        """A query was ``asked``, ``changed`` or ``removed`` at ``time_s`` of the stream; or ``never_asked``,
        because the stream ended before; or ``not_trained``, because it lies outside what the model knows.
        """
        event = self._start("query", time_s, (action, query, text), query=query)
        return event | self._wall_time() | {"action": action, "text": text}

    def model(self, model: str, outage: str, time_s: float) -> Event:
        """The model cannot decide at present, because of ``outage``; or, when that is empty, can again."""
        state = "unavailable" if outage else "available"
        event = self._start("model", time_s, (state,))
        return event | self._wall_time() | {"model": model, "state": state, "cause": outage}

    def stats(self, time_s: float, counts: Mapping[str, Any], timing: Mapping[str, Any]) -> Event:
        """Counts so far, and for a live source ``timing`` (latencies, drops), which never repeats exactly."""
        event = self._start("stats", time_s, ()) | self._wall_time()
        return {**event, **counts, **(timing if self.live else {})}

    def _start(self, kind: str, time_s: float, about: tuple[str, ...], **more: str) -> Event:
        id = self.ids.next(kind, time_s, about)
        return {"type": kind, "id": id, "stream": self.stream, **more, "time": round_seconds(time_s)}

    def _wall_time(self) -> dict[str, str]:
        if not self.live:
            return {}
        moment = datetime.fromtimestamp(self._now(), timezone.utc)
        return {"wall_time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")}


def encode(event: Event) -> str:
    """One line of UTF-8 JSON without its newline; safe to show on a terminal."""
    line = json.dumps(event, ensure_ascii=False, allow_nan=False)
    return _UNSAFE.sub(lambda match: f"\\u{ord(match.group()):04x}", line)
