"""Is a record of events whole and in order? Pure functions over what a run wrote and what was done to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

_MAY_FOLLOW = {
    "": {"connecting"},
    "connecting": {"connecting", "live", "ended"},
    "live": {"stalled", "ended"},
    "stalled": {"connecting", "live", "stalled", "ended"},
    "ended": set(),
}
"""A stream's states: a loss is told before the attempts, these before the return."""


def check_events(events: Sequence[Mapping[str, Any]], kills: Mapping[str, int]) -> list[str]:
    """What is wrong, in words; empty when all is well.

    ``events``: as written, of all streams. ``kills``: how often each stream's server was killed. Responses
    are counted against the run's own statistics: one that was made and not written shows there.
    """
    faults = []
    ids = [event["id"] for event in events]
    if len(set(ids)) != len(ids):
        faults.append(f"{len(ids) - len(set(ids))} ids occur twice")
    for stream in sorted({event["stream"] for event in events} | set(kills)):
        mine = [event for event in events if event["stream"] == stream]
        faults += [f"{stream}: {fault}" for fault in _check_stream(mine, kills.get(stream, 0))]
    return faults


def _check_stream(events: Sequence[Mapping[str, Any]], kills: int) -> list[str]:
    faults = []
    if [event["id"] for event in events] != sorted(event["id"] for event in events):
        faults.append("ids go back")
    times = [event["time"] for event in events]
    if times != sorted(times):
        faults.append("stream time goes back")
    ends = [event["time"] for event in events if event["type"] == "response"]
    if len(set(ends)) != len(ends):
        faults.append("two responses of one timestep")
    before = ""
    for event in events:
        if event["type"] != "stream":
            continue
        if event["state"] not in _MAY_FOLLOW.get(before, set()):
            faults.append(f"{event['state']} follows {before or 'nothing'} at {event['time']} s")
        before = event["state"]
    if before != "ended":
        faults.append(f"the last state is {before or 'missing'}")
    stats = [event for event in events if event["type"] == "stats"]
    if not stats:
        return [*faults, "no statistics"]
    if stats[-1]["responses"] != len(ends):
        faults.append(f"{stats[-1]['responses']} responses were made, {len(ends)} are written")
    if stats[-1]["reconnects"] != kills:
        faults.append(f"{kills} kills and {stats[-1]['reconnects']} reconnects")
    return faults


def recoveries(events: Sequence[Mapping[str, Any]], kills: Sequence[tuple[str, float, float]]) -> list[float]:
    """Seconds from each server's return to its stream's next ``live``.

    ``kills``: stream, and the times (Unix) of death and of return. One that never came back adds nothing.
    """
    found = []
    for stream, killed, back in kills:
        lives = [
            moment
            for event in events
            if event["stream"] == stream and event.get("state") == "live"
            for moment in [datetime.fromisoformat(event["wall_time"].replace("Z", "+00:00")).timestamp()]
            if moment > killed
        ]
        if lives:
            found.append(max(0.0, min(lives) - back))
    return found
