"""Watching a stream from Python, with a real model."""

from __future__ import annotations

import numpy as np
import pytest

import edge_runtime
from edge_runtime import PolicySettings
from edge_runtime.errors import ConfigError

ALWAYS = PolicySettings(threshold=0.0, repeat_s=0.0)


def frames(seconds: int) -> list[tuple[float, np.ndarray]]:
    random = np.random.default_rng(1)
    shown = random.integers(0, 256, (2 * seconds + 1, 64, 64, 3), dtype=np.uint8)
    return [(index / 2, frame) for index, frame in enumerate(shown)]


@pytest.fixture
def watcher(tiny_bundle):
    with edge_runtime.watch(tiny_bundle, threads=1, identity="clip") as watcher:
        yield watcher


def test_responses_name_their_query_and_carry_unique_ids(watcher):
    assert [watcher.ask("What happens?", policy=ALWAYS), watcher.ask("Later?", at=2.5, policy=ALWAYS)] == [
        "q1",
        "q2",
    ]
    responses = list(watcher.responses(frames(4)))
    assert [(one.time, one.query) for one in responses] == [
        (1.0, "q1"),
        (2.0, "q1"),
        (3.0, "q1"),
        (3.0, "q2"),
        (4.0, "q1"),
        (4.0, "q2"),
    ]
    assert len({one.id for one in responses}) == 6 and all(one.text for one in responses)


def test_the_policy_holds_responses_back(watcher):
    watcher.ask("What happens?", policy=PolicySettings(threshold=0.0, repeat_s=0.0, min_gap_s=3.0))
    assert [one.time for one in watcher.responses(frames(8))] == [1.0, 4.0, 7.0]


def test_a_recording_gives_the_same_responses_on_every_run(tiny_bundle):
    runs = []
    for _ in range(2):
        with edge_runtime.watch(tiny_bundle, threads=1, fps=2.0, identity="clip") as watcher:
            watcher.ask("What happens?", policy=ALWAYS)
            runs.append([(one.id, one.time, one.text) for one in watcher.responses(frames(2))])
    assert runs[0] == runs[1] and len(runs[0]) == 4


def test_the_session_decides_the_same(watcher, tiny_bundle):
    """The loop adds policy and ids; the decisions are those of a session."""
    watcher.ask("What happens?", policy=ALWAYS)
    session = edge_runtime.open(tiny_bundle, threads=1, threshold=0.0)
    session.ask("What happens?")
    decisions = [one for one in (session.push(frame, t) for t, frame in frames(5)) if one]
    assert [(one.time, one.text) for one in decisions] == [
        (one.time, one.text) for one in watcher.responses(frames(5))
    ]


def test_a_query_that_cannot_be_asked_is_refused_at_once(watcher):
    with pytest.raises(ConfigError, match="query: "):
        watcher.ask("word " * 2000)
