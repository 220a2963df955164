"""The judge of a soak run must see what is lost, doubled or out of order."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.errors import BackendError
from tests.soak.event_check import check_events, recoveries
from tests.soak.process import holdings, slope

ROOT = Path(__file__).resolve().parents[2]


def stream(*states: tuple[str, float]) -> list[dict[str, Any]]:
    """One camera's events: its states, a response after each `live`, statistics at the end."""
    events: list[dict[str, Any]] = []

    def add(**more: Any) -> None:
        number = len(events)
        second, rest = divmod(more["time"], 60)
        wall = f"2026-01-01T00:{int(second):02}:{rest:06.3f}Z"
        events.append({"id": f"{number:04}", "stream": "door", "wall_time": wall, **more})

    for state, time in states:
        add(type="stream", state=state, time=time)
        if state == "live":
            add(type="response", time=time + 1)
    lives = sum(state == "live" for state, _ in states)
    add(type="stats", time=states[-1][1], responses=lives, reconnects=lives - 1)
    return events


GOOD = stream(
    *(("connecting", 0.0), ("live", 1.0), ("stalled", 20.0), ("connecting", 21.0), ("live", 23.0)),
    *(("stalled", 40.0), ("live", 41.5), ("ended", 60.0)),
)


def test_a_good_run() -> None:
    assert check_events(GOOD, {"door": 2}) == []


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda e: e.pop(2), "3 responses were made, 2 are written"),
        (lambda e: e.append(e[2]), "1 ids occur twice"),
        (lambda e: e.insert(1, e.pop(6)), "ids go back"),
        (lambda e: e[4].update(time=0.5), "stream time goes back"),
        (lambda e: e[9].update(time=24.0), "two responses of one timestep"),
        (lambda e: e.pop(3), "connecting follows live at 21.0 s"),
        (lambda e: e.pop(-2), "the last state is live"),
        (lambda e: e[-1].update(reconnects=1), "2 kills and 1 reconnects"),
        (lambda e: e.pop(), "no statistics"),
        (lambda e: e.clear(), "no statistics"),
    ],
)
def test_what_is_wrong_is_seen(spoil: Any, words: str) -> None:
    events = copy.deepcopy(GOOD)
    spoil(events)
    assert any(words in fault for fault in check_events(events, {"door": 2}))


def test_recovery_counts_from_the_servers_return() -> None:
    begin = 1767225600.0  # 2026-01-01
    kills = [
        ("door", begin + 20, begin + 22),
        ("door", begin + 40, begin + 41.2),
        ("door", begin + 50, begin + 51),
    ]
    assert recoveries(GOOD, kills) == pytest.approx([1.0, 0.3])  # from the last one it did not come back


def test_slope_is_not_moved_by_one_step() -> None:
    assert slope(range(50), [2.0 * x for x in range(50)]) == pytest.approx(2.0)
    assert slope(range(50), [100.0] * 5 + [108.0] * 45) == 0.0
    assert slope([3], [1.0]) == 0.0
    assert slope([3, 3], [1.0, 2.0]) == 0.0


ALONE = """
import json
from tests.soak.process import allocated_mb, holdings
before, base = holdings(), allocated_mb()
with open("/dev/null"):
    files = holdings().files
block = bytearray(50 << 20)
found = {"more_files": files - before.files, "more_mb": allocated_mb() - base, **vars(before)}
print(json.dumps(found))
"""


def test_what_a_process_holds() -> None:
    """In a process of its own: in this one other tests' threads may open and close what they like."""
    done = subprocess.run([sys.executable, "-c", ALONE], cwd=ROOT, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert found["more_files"] == 1
    assert found["more_mb"] == pytest.approx(50, abs=2)
    assert found["rss_mb"] > 10 and found["threads"] >= 1
    with pytest.raises(BackendError, match="process 4194999: it has ended"):
        holdings(4194999)
