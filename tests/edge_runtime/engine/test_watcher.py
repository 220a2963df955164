"""Watching a stream from Python, with a real model."""

from __future__ import annotations

import asyncio
import threading
import time
from itertools import count

import numpy as np
import pytest

import edge_runtime
from edge_runtime import PolicySettings
from edge_runtime.errors import ConfigError
from edge_runtime.events.waiting import Waiting

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


def test_questions_change_while_another_thread_pushes(tiny_bundle):
    with edge_runtime.watch(tiny_bundle, threads=1) as watcher:
        first = watcher.ask("What does the person do?", policy=ALWAYS)
        heard, over = [], threading.Event()
        unsubscribe = watcher.on_response(heard.append)

        def push() -> None:
            for t in count(1):
                if over.is_set():
                    return
                watcher.push(np.full((64, 64, 3), 37 * t % 256, np.uint8), float(t))

        thread = threading.Thread(target=push)
        thread.start()
        try:
            for number in range(50):
                id = watcher.ask(f"Question {number}?", policy=ALWAYS)
                watcher.change(id, text="How many red cars passed by?", paused=True)
                watcher.change(id, policy=PolicySettings(), paused=False)
                watcher.withdraw(id)
            until = time.monotonic() + 20
            while len(heard) < 5 and time.monotonic() < until:
                time.sleep(0.01)
        finally:
            over.set()
            thread.join()
        times = [response.time for response in heard if response.query == first]
        assert len(times) >= 5 and times == [float(n) for n in range(1, len(times) + 1)]
        assert watcher.queries == {first: "What does the person do?"}
        unsubscribe()
        said = len(heard)
        assert watcher.push(np.zeros((64, 64, 3), np.uint8), 1e6) and len(heard) == said
        with pytest.raises(ConfigError, match=r"query q99: no such query .there are: q1.$"):
            watcher.withdraw("q99")
        with pytest.raises(ConfigError):
            watcher.change(first, text=" ")
        watcher.change(first, paused=True)
        assert watcher.push(np.zeros((64, 64, 3), np.uint8), 1e6 + 1) == []


def test_responses_can_be_waited_for_in_an_event_loop(tiny_bundle):
    async def listen(watcher) -> list[float]:
        events = watcher.events()
        pushed = asyncio.to_thread(push, watcher)
        task = asyncio.create_task(pushed)
        times = [response.time async for response in events]
        await task
        return times

    def push(watcher) -> None:
        for t in range(1, 6):
            watcher.push(np.full((64, 64, 3), 37 * t, np.uint8), float(t))
        watcher.close()

    with edge_runtime.watch(tiny_bundle, threads=1) as watcher:
        watcher.ask("What does the person do?", policy=ALWAYS)
        assert asyncio.run(listen(watcher)) == [1, 2, 3, 4, 5]
        assert watcher._streams == [] and watcher._feed._receivers == ()


def test_who_does_not_read_loses_the_oldest_and_holds_up_nobody():
    async def fill() -> tuple[list[int], int]:
        waiting = Waiting[int](3)
        for number in range(10):
            waiting.put(number)
        waiting.end()
        return [number async for number in waiting], waiting.dropped

    assert asyncio.run(fill()) == ([7, 8, 9], 7)
