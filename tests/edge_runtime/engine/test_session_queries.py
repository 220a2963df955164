"""Queries of a session: asked, removed, refused, from other threads."""

import threading
import time
from collections import Counter

import pytest

from edge_runtime.errors import ConfigError
from tests.edge_runtime.engine.stream import QUERY, run


def test_before_a_query_the_model_only_watches(model, tokens):
    session = model.session(threshold=0.0)
    for decision in run(session, tokens, 3):
        assert (decision.speak, decision.score, decision.text, decision.query) == (False, 0.0, None, None)
    session.ask(QUERY)
    decision = session.push_tokens(tokens[3], 3)
    assert decision.speak
    assert decision.query == "q1"
    session.remove("q1")
    assert not session.push_tokens(tokens[4], 4).speak


def test_watching_before_the_query_matters(model, tokens):
    scores = []
    for first in (0, 3):
        session = model.session(threshold=1.0)
        run(session, tokens, 5 - first, first)
        session.ask(QUERY)
        scores.append(session.push_tokens(tokens[5], 5).score)
    assert scores[0] != scores[1]


def test_a_removed_query_is_forgotten(model, tokens):
    """One query removed before its first timestep leaves no trace at all."""
    plain, changed = model.session(), model.session()
    for session in (plain, changed):
        session.ask(QUERY)
    extra = changed.ask("How many red cars passed by?")
    changed.remove(extra)
    assert changed.queries == plain.queries == {"q1": QUERY}
    assert run(changed, tokens, 20) == run(plain, tokens, 20)
    changed.ask("How many red cars passed by?", id="cars")
    changed.push_tokens(tokens[20], 20)
    slots = changed._window.pinned_slots
    changed.remove("cars")
    assert changed._window.pinned_slots < slots
    assert changed.push_tokens(tokens[21], 21).query == "q1"


def test_questions_that_cannot_be_asked(session):
    with pytest.raises(ConfigError, match="empty"):
        session.ask(" \n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        session.ask("caf\udce9")
    with pytest.raises(ConfigError, match=r"at most \d+ fit"):
        session.ask("word " * 400)
    session.ask(QUERY, id="a")
    with pytest.raises(ConfigError, match="in use"):
        session.ask(QUERY, id="a")
    with pytest.raises(ConfigError, match=r"nothing.*active: a"):
        session.remove("nothing")
    with pytest.raises(ConfigError, match="beside 1 active"):
        session.ask("word " * 85)
    assert session.queries == {"a": QUERY}


def test_as_many_queries_as_fit_leave_room_for_the_stream(model, tokens):
    session = model.session(threshold=0.0)
    asked = 0
    with pytest.raises(ConfigError, match="fit"):
        while True:
            session.ask(QUERY)
            asked += 1
    assert asked >= 3
    run(session, tokens, 40)
    assert session._window.turns > 1


def test_ids_are_given_in_order_and_never_twice(session):
    assert session.ask(QUERY) == "q1"
    assert session.ask(QUERY, id="q2") == "q2"
    assert session.ask(QUERY) == "q3"
    session.remove("q1")
    assert session.ask(QUERY) == "q4"


def test_asking_from_another_thread_never_falls_into_a_step(model, tokens):
    session = model.session(threshold=1.0)
    stop = threading.Event()

    def meddle():
        while not stop.is_set():
            session.remove(session.ask(QUERY))
            time.sleep(0.001)

    thread = threading.Thread(target=meddle)
    thread.start()
    try:
        kinds = Counter()
        for k in range(30):
            session.push_tokens(tokens[k], k)
            kinds.update(segment.kind for segment in session._window.segments)
    finally:
        stop.set()
        thread.join()
    assert kinds["prefix"] == 30
