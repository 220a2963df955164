"""Several queries in one session: numbers, thresholds, places, and what becomes of a text that names none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import edge_runtime
from edge_runtime import PolicySettings
from edge_runtime.engine.decision_loop import DecisionLoop
from edge_runtime.engine.session import StreamSession
from edge_runtime.engine.watcher import Watcher
from edge_runtime.errors import BackendError, ConfigError
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.query_config import QueryConfig
from tests.edge_runtime.several_queries import load_with, script

WHAT, STEPS, DOG = "What does the person do?", "Tell me each step.", "Alert me when the dog crosses."
ALWAYS = PolicySettings(threshold=0.0, repeat_s=0.0)


@pytest.fixture(scope="module")
def model(tiny_bundle, tmp_path_factory):
    """Two queries a session."""
    return load_with(tiny_bundle, tmp_path_factory.mktemp("several") / "two", 2)


@pytest.fixture
def tokens(model):
    vision = model.open_vision()
    frames = np.random.default_rng(3).integers(0, 256, (20, 64, 64, 3), dtype=np.uint8)
    return [vision.see(frame) for frame in frames]


@pytest.fixture
def session(model):
    with model.session(threshold=0.0) as session:
        yield session


def loop_of(model, *texts, delivered=None, policy=ALWAYS):
    kept = [] if delivered is None else delivered
    configs = [QueryConfig(text, 0.0, policy) for text in texts]
    loop = DecisionLoop(model, configs, EventIds("door", "file"), lambda response: not kept.append(response))
    loop.ask_due(0.0)
    return loop


def test_a_response_is_read_by_its_numbers(session, model, tokens, monkeypatch):
    assert [session.ask(WHAT), session.ask(STEPS, id="steps")] == ["q1", "steps"]
    script(monkeypatch, model, ["2: One.\n1: Two.", "2: One.", "3: One.", "One.", "1: One.\nTwo."])
    both, second, unknown, bare, mixed = (session.push_tokens(tokens[i], i) for i in range(5))
    assert both.answers == {"q1": "Two.", "steps": "One."} and both.text == "One.\nTwo."
    assert second.speak and second.answers == {"steps": "One."} and second.query == "steps"
    assert second.about("q1").speak is False and second.about("q1").text is None
    for decision, line in ((unknown, "3: One."), (bare, "One.")):
        assert not decision.speak and decision.answers == {} and decision.text is None
        assert decision.unattributed == (line,) and decision.tokens  # the model knows that it said so
    assert mixed.answers == {"q1": "One."} and mixed.unattributed == ("Two.",)


def test_prompts_carry_the_numbers(session, model, tokens):
    session.ask(WHAT)
    session.ask(STEPS)
    before = session.slots
    session.push_tokens(tokens[0], 0)
    asked = model.encoder.query_ids(WHAT, 1) + model.encoder.query_ids(STEPS, 2)
    assert model.tokenizer.decode(model.encoder.query_ids(STEPS, 2)).endswith("2: Tell me each step.")
    assert session.slots - before >= len(asked) + len(model.encoder.turn_ids(0))


def test_each_query_has_a_threshold_of_its_own(session, model, tokens, monkeypatch):
    left = script(monkeypatch, model, ["1: One.\n2: Two.", "2: Two.", "2: Two.\nThree.", "end"])
    first, second = session.ask(WHAT), session.ask(STEPS)
    session.set_threshold(second, 1.0)
    assert session.threshold == 0.0
    assert session.push_tokens(tokens[0], 0).answers == {first: "One."}
    before = session.slots
    silent = session.push_tokens(tokens[1], 1)
    assert not silent.speak and silent.unattributed == () and silent.tokens == ()
    end_of_before = len(model.encoder.response_end_ids)
    assert session.slots - before == end_of_before + len(model.encoder.turn_ids(1))  # taken back
    assert session.push_tokens(tokens[2], 2).unattributed == ("Three.",)
    session.set_threshold(first, 1.0)
    assert session.threshold == 1.0
    session.push_tokens(tokens[3], 3)
    assert left == ["end"]  # below the lowest threshold nothing is generated
    session.set_threshold(first, None)
    assert session.threshold == 0.0
    with pytest.raises(ConfigError, match="threshold 2"):
        session.set_threshold(first, 2.0)


def test_a_number_is_given_once(session, model, tokens, monkeypatch):
    script(monkeypatch, model, ["1: One."])
    first, second = session.ask(WHAT), session.ask(STEPS)
    assert session.push_tokens(tokens[0], 0).answers == {first: "One."}
    session.remove(first)
    late = session.push_tokens(tokens[1], 1)
    assert late.answers == {} and late.unattributed == ("1: One.",)  # never taken for the other's
    with pytest.raises(ConfigError, match=r"trained with 2 .*one session for each 2 questions"):
        session.ask(DOG)
    assert session.queries == {second: STEPS}
    session.reset(keep_queries=True)  # a new stream: the one that is left has number 1 now
    assert session.push_tokens(tokens[2], 2).answers == {second: "One."}
    assert session.ask(DOG) == "q3"


def test_queries_share_sessions_in_order(model, tokens, monkeypatch):
    said, pushes = [], []
    push = StreamSession.push_tokens
    monkeypatch.setattr(
        StreamSession, "push_tokens", lambda self, *rest: pushes.append(self) or push(self, *rest)
    )
    script(monkeypatch, model, ["1: One.\n2: Two.", "1: Three."])
    loop = loop_of(model, WHAT, STEPS, DOG, delivered=said)
    sessions = [query.session for query in loop.queries]
    assert sessions[0] is sessions[1] is not sessions[2]
    steps = loop.step(tokens[0], 0)
    assert pushes == [sessions[0], sessions[2]]  # a decoder pass a session, not a query
    assert [(r.query, r.question, r.text) for r in said] == [
        ("q1", WHAT, "One."), ("q2", STEPS, "Two."), ("q3", DOG, "Three.")
    ]  # fmt: skip
    assert len({r.id for r in said}) == 3
    assert [step.leads for step in steps] == [True, False, True]
    assert [step.decision.query for step in steps] == ["q1", "q2", "q3"]
    assert steps[1].latency_ms == steps[0].latency_ms
    steps = loop.step(tokens[1], 1)  # "1: Three." for both sessions
    assert [step.decision.text for step in steps] == ["Three.", None, "Three."]
    loop.close()


def test_each_query_has_a_policy_of_its_own(model, tokens, monkeypatch):
    said = []
    script(monkeypatch, model, ["1: One.\n2: Two."])
    loop = loop_of(model, WHAT, STEPS, delivered=said)
    loop.queries[1].set_policy(replace(ALWAYS, min_gap_s=3.0))
    reasons = [[step.suppressed for step in loop.step(tokens[i], i)] for i in range(4)]
    assert reasons == [[None, None], [None, "min_gap"], [None, "min_gap"], [None, None]]
    assert [r.time for r in said if r.query == "q2"] == [1.0, 4.0]
    loop.queries[0].set_policy(replace(ALWAYS, threshold=1.0))
    assert [step.decision.speak for step in loop.step(tokens[4], 4)] == [False, True]
    loop.close()


def wanted(loop, configs):
    """Each configuration with the query that has its text already, or None."""
    by_text = {query.config.text: query for query in loop.queries}
    return [(by_text.get(config.text), config) for config in configs]


def test_queries_come_and_go_while_the_stream_runs(model, tokens, monkeypatch):
    said = []
    script(monkeypatch, model, ["1: One.\n2: Two."])
    loop = loop_of(model, WHAT, STEPS, DOG, delivered=said)
    first, third = loop.queries[0].session, loop.queries[2].session
    loop.step(tokens[0], 0)

    new = [QueryConfig(text, 0.0, ALWAYS) for text in (STEPS, DOG, "Is it a red car?", "How many?")]
    revision = loop.prepare(wanted(loop, new), 1.0)
    assert [query.session for query in revision.queries][:3] == [
        first,
        third,
        third,
    ]  # joins; no number twice
    fresh = revision.queries[3].session
    assert fresh not in (first, third)
    assert [(action, query.id) for action, query in loop.revise(revision)] == [
        ("removed", "q1"), ("added", "q4"), ("added", "q5")
    ]  # fmt: skip
    loop.ask_due(2.0)
    said.clear()
    loop.step(tokens[1], 1)
    assert [(r.query, r.text) for r in said] == [
        ("q2", "Two."), ("q3", "One."), ("q4", "Two."), ("q5", "One.")
    ]  # fmt: skip

    loop.revise(loop.prepare(wanted(loop, new[:1]), 2.0))
    for closed in (third, fresh):
        with pytest.raises(edge_runtime.EdgeError, match="closed"):
            closed.push_tokens(tokens[2], 2)
    said.clear()
    loop.reset()  # another stream: the only query left is number 1
    loop.step(tokens[2], 0)
    assert [(r.query, r.text) for r in said] == [("q2", "One.")]
    loop.close()


def test_a_revision_that_is_not_used_leaves_no_place_taken(model, tokens):
    loop = loop_of(model, WHAT)
    for _ in range(3):
        configs = [QueryConfig(text, 0.0, ALWAYS) for text in (WHAT, STEPS, DOG)]
        revision = loop.prepare(wanted(loop, configs), 0.0)
        assert revision.queries[1].session is loop.queries[0].session
        revision.discard()
    with pytest.raises(ConfigError, match="tokens"):
        loop.prepare(wanted(loop, [*configs, QueryConfig("word " * 400, 0.0, ALWAYS)]), 0.0)
    loop.revise(loop.prepare(wanted(loop, configs), 0.0))
    assert len({query.session for query in loop.queries}) == 2
    loop.step(tokens[0], 0)
    loop.close()


def test_a_query_that_is_due_later_keeps_its_place(model, tokens, monkeypatch):
    said = []
    script(monkeypatch, model, ["1: One."])
    loop = DecisionLoop(
        model,
        [QueryConfig(WHAT, 2.0, ALWAYS), QueryConfig(STEPS, 0.0, ALWAYS)],
        EventIds("door", "file"),
        lambda response: not said.append(response),
    )
    for i in range(3):
        loop.ask_due(i + 1.0)
        loop.step(tokens[i], i)
    # numbers follow the order of asking: the one that was due first has number 1
    assert [(r.query, r.time) for r in said] == [("q2", 1.0), ("q2", 2.0), ("q2", 3.0)]
    assert loop.queries[0].session.queries == {"q2": STEPS, "q1": WHAT}
    loop.close()


def test_another_text_takes_the_next_number_and_then_another_session(model, tokens, monkeypatch):
    said = []
    script(monkeypatch, model, ["1: One.", "1: One.\n2: Two.", "1: Three."])
    loop = loop_of(model, WHAT, delivered=said)
    (query,) = loop.queries
    first = query.session
    loop.step(tokens[0], 0)
    query.reword(STEPS)
    loop.step(tokens[1], 1)
    assert query.session is first
    query.reword(DOG)
    assert query.session is not first and query.config.text == DOG
    loop.step(tokens[2], 2)
    assert [r.text for r in said] == ["One.", "Two.", "Three."]
    with pytest.raises(ConfigError, match="empty"):
        query.reword(" ")
    assert query.session.queries == {"q1": DOG}
    loop.close()


def test_a_watcher_shares_too(model, monkeypatch):
    script(monkeypatch, model, ["1: One.\n2: Two."])
    frames = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    with Watcher(model, identity="clip") as watcher:
        for text in (WHAT, STEPS):
            watcher.ask(text, policy=ALWAYS)
        responses = list(watcher.responses(enumerate(frames)))
    assert [(r.time, r.query, r.text) for r in responses] == [
        (1.0, "q1", "One."), (1.0, "q2", "Two."), (2.0, "q1", "One."), (2.0, "q2", "Two.")
    ]  # fmt: skip


def test_a_step_that_fails_may_be_repeated(model, tokens, monkeypatch):
    loop = loop_of(model, WHAT, STEPS)
    before = loop.queries[0].session.slots
    broken = np.full_like(tokens[0], np.nan)
    with pytest.raises(BackendError):
        loop.step(broken, 0)
    assert loop.queries[0].session.slots == before
    script(monkeypatch, model, ["2: Two."])
    assert [step.decision.text for step in loop.step(tokens[0], 0)] == [None, "Two."]
    loop.close()


def test_one_query_a_session_stays_the_rule(tiny_bundle, tokens):
    loop = loop_of(edge_runtime.load("nano", threads=1), WHAT, STEPS)
    assert len({query.session for query in loop.queries}) == 2
    loop.close()
