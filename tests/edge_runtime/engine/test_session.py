"""A session's timesteps: time, text, threshold, eviction, failures."""

import threading

import numpy as np
import pytest

import edge_runtime
from edge_runtime.backends.ort_cache import OrtHostCache
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError, ConfigError, EdgeError, SourceError
from tests.edge_runtime.engine.stream import QUERY, frame, run


def test_a_silent_timestep_is_one_call_and_so_is_an_evicting_one(model, tokens, monkeypatch):
    calls, step = [], OrtHostCache.step
    monkeypatch.setattr(OrtHostCache, "step", lambda *arguments: calls.append(1) or step(*arguments))
    session = model.session(threshold=1.0)
    session.ask(QUERY)
    for k in range(40):
        calls.clear()
        assert not session.push_tokens(tokens[k], k).speak
        assert len(calls) == 1


def test_a_response_always_says_something_and_ends(model, tokens):
    session = model.session(threshold=0.0)
    session.ask(QUERY)
    for decision in run(session, tokens, 50):
        assert decision.speak
        assert decision.text.strip()
        assert 1 <= len(decision.tokens) <= model.stream_format.max_response_tokens
        assert decision.text == model.tokenizer.decode(decision.tokens)


def test_nothing_but_blanks_is_silence(model, tokens, monkeypatch):
    blank = model.tokenizer.encode(" ")[0]
    bias = np.full_like(model.text_bias, -np.inf)
    bias[[blank, model.encoder.stop_id]] = 0.0
    session = model.session(threshold=0.0)
    silent = model.session(threshold=1.0)
    for each in (session, silent):
        each.ask(QUERY)
    monkeypatch.setattr(model, "text_bias", bias)
    for k in range(5):  # the cache goes on as after a real silence
        decision = session.push_tokens(tokens[k], k)
        assert (decision.speak, decision.text, decision.tokens) == (False, None, ())
        assert decision.score == pytest.approx(silent.push_tokens(tokens[k], k).score, abs=1e-6)


def test_time_is_what_is_pushed(session):
    session.ask(QUERY)
    assert session.push(frame(), 0.0) is None
    assert session.push(None, 0.5) is None  # not even looked at
    decision = session.push(frame(), 0.9)
    assert (decision.time, decision.interval) == (1.0, (0.0, 1.0))
    assert session.push(frame(), 1.2) is None
    assert session.push(frame(), 7.0).interval == (6.0, 7.0)
    assert {"preprocess", "vision", "append", "decision", "total"} <= set(decision.timing)
    assert all(ms >= 0 for ms in decision.timing.values())


def test_push_is_vision_and_push_tokens(model):
    vision = model.open_vision()
    one, other = model.session(), model.session()
    for session in (one, other):
        session.ask(QUERY)
    for k in range(4):
        image = frame(k, (120, 200))
        assert one.push(image, k + 1.0) == other.push_tokens(vision.see(image), k)


def test_a_recorded_stream_gives_the_same_decisions_again(model, tokens):
    session = model.session(threshold=0.5)
    session.ask(QUERY)
    first = run(session, tokens, 30)
    session.reset()
    assert session.queries == {}
    assert session.ask(QUERY) == "q1"
    assert run(session, tokens, 30) == first
    session.reset(keep_queries=True)
    assert session.queries == {"q1": QUERY}
    assert run(session, tokens, 30) == first
    other = model.session(threshold=0.5)
    other.ask(QUERY)
    assert run(other, tokens, 30) == first


@pytest.mark.parametrize("failing_call", [1, 2, 3])
def test_a_failing_step_leaves_the_session_as_it_was(model, tokens, failing_call):
    """At the decision, at the first and at a later text token; with an eviction due."""
    image = frame(3)
    expected, session = model.session(threshold=0.0), model.session(threshold=0.0)
    for each in (expected, session):
        each.ask(QUERY)
        run(each, tokens, 12)
        each.ask("What does the person do?")
    cache = session._decoder._cache
    step, calls = cache.step, 0

    def fail_once(embeddings, start):
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise BackendError("decoder graph: out of memory")
        return step(embeddings, start)

    cache.step = fail_once
    with pytest.raises(BackendError):
        session.push(image, 13.0)
    assert session.push(image, 13.0) == expected.push(image, 13.0)
    assert run(session, tokens, 20, 13) == run(expected, tokens, 20, 13)


def test_a_bad_frame_changes_nothing(model):
    expected, session = model.session(), model.session()
    for each in (expected, session):
        each.ask(QUERY)
        each.push(frame(1), 1.0)
    with pytest.raises(SourceError, match="uint8"):
        session.push(frame(2).astype(np.float32), 2.0)
    with pytest.raises(SourceError, match="seconds"):
        session.push(frame(2), float("nan"))
    assert session.push(frame(2), 2.0) == expected.push(frame(2), 2.0)


def test_a_full_cache_evicts_before_it_overflows(tiny_bundle_fp32, tokens):
    """Responses so long that slots run out before the window's turns do."""
    model = Model(tiny_bundle_fp32, threads=1)
    session = model.session(threshold=0.0)
    session._window.max_turns = 1000
    session.ask(QUERY)
    evictions = 0
    for decision in run(session, tokens, 60):
        assert session._window.slots <= session._window.capacity
        evictions += "evict" in decision.timing
    assert evictions >= 3


def test_far_timesteps_work(session, tokens):
    session.ask(QUERY)
    for k in [*range(20_000, 20_040), 1_000_000, 99_999_999]:
        decision = session.push_tokens(tokens[k % 60], k)
    assert decision.time == 100_000_000.0
    assert 0.0 <= decision.score <= 1.0


def test_timesteps_only_go_forward(session, tokens):
    session.push_tokens(tokens[0], 5)
    for index in (5, 4, -1):
        with pytest.raises(ConfigError, match="after the last"):
            session.push_tokens(tokens[0], index)
    with pytest.raises(ConfigError, match="shape"):
        session.push_tokens(tokens[0][0], 6)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_threshold_is_a_probability(model, session, threshold):
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        model.session(threshold=threshold)
    with pytest.raises(ConfigError, match=r"0\.\.1"):
        session.threshold = threshold


def test_speaks_from_the_threshold_on(model, tokens):
    session = model.session(threshold=1.0)
    session.ask(QUERY)
    decisions = run(session, tokens, 8)
    session.reset(keep_queries=True)
    session.threshold = decisions[0].score
    assert session.push_tokens(tokens[0], 0).speak


def test_a_closed_session_says_so(model, tokens):
    session = model.session()
    session.close()
    session.close()
    for call in (
        lambda: session.push(frame(), 1.0),
        lambda: session.push_tokens(tokens[0], 0),
        lambda: session.ask(QUERY),
        lambda: session.remove("q1"),
        session.reset,
    ):
        with pytest.raises(EdgeError, match="closed"):
            call()


def test_sessions_run_in_parallel_on_one_model(model, tokens):
    def watch(results, number):
        with model.session(threshold=0.5) as session:
            session.ask(QUERY)
            results[number] = run(session, tokens, 30)

    results = {}
    threads = [threading.Thread(target=watch, args=(results, n)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1] == results[2]


def test_open_by_folder(tiny_bundle):
    with edge_runtime.open(tiny_bundle, threads=1, threshold=0.0) as session:
        session.ask(QUERY)
        decision = session.push(frame(0, (48, 64)), 1.0)
    assert isinstance(decision, edge_runtime.Decision)
    assert decision.response
