"""Several questions in shared calls of the engine: the same decisions as in sessions of their own."""

import logging
import threading
import time
from concurrent.futures import wait

import numpy as np
import pytest

from edge_runtime.backends import batcher as batcher_module
from edge_runtime.backends.batcher import FEWEST, StepBatcher
from edge_runtime.backends.ort import OrtBackend, OrtDecoder
from edge_runtime.backends.ort_batch import OrtBatch
from edge_runtime.engine.decision_loop import DecisionLoop
from edge_runtime.engine.model import Model
from edge_runtime.errors import BackendError
from edge_runtime.events.numbering import EventIds
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from tests.edge_runtime.engine.stream import middle, run

TEXTS = [
    "Tell me each step as it is finished.",
    "What does the person do?",
    "Alert me when the dog crosses the street.",
    "How many red cars passed by?",
    "Alert me when the person cuts the tomato.",
    "Tell me when a car is passing.",
    "What happened?",
    "Does the dog wash the knife?",
    "Tell me what the red car does.",
    "Alert me when the person crosses the street.",
]
ASKED_AT = [0, 0, 5, 11, 0, 23, 0, 30, 0, 0]
TIMESTEPS = 64


@pytest.fixture
def calls(monkeypatch):
    """How many sessions each call of the batch graph took."""
    taken = []
    step = OrtBatch.step

    def counted(self, steps):
        taken.append(len(steps))
        return step(self, steps)

    monkeypatch.setattr(OrtBatch, "step", counted)
    return taken


def watch(model, count, thresholds, tokens):
    """Decisions of each question over all timesteps, in one decision loop."""
    settings = [PolicySettings(threshold=value) for value in thresholds]
    configs = [QueryConfig(TEXTS[i], float(ASKED_AT[i]), settings[i]) for i in range(count)]
    loop = DecisionLoop(model, configs, EventIds("test", "recording"), lambda response: True)
    found = {query.id: [] for query in loop.queries}
    for index in range(TIMESTEPS):
        loop.ask_due(model.stream_format.interval(index)[1])
        for step in loop.step(tokens[index % len(tokens)], index):
            found[step.query].append(outcome(step.decision))
    loop.close()
    return list(found.values())


def apart(model, count, thresholds, tokens):
    """The same in sessions that are pushed one after the other."""
    found = []
    for i in range(count):
        with model.session(threshold=thresholds[i]) as session:
            decisions = []
            for index in range(TIMESTEPS):
                if model.stream_format.interval(index)[1] >= ASKED_AT[i] and not session.queries:
                    session.ask(TEXTS[i], id=f"q{i + 1}")
                decisions.append(outcome(session.push_tokens(tokens[index % len(tokens)], index)))
            found.append(decisions)
    return found


def outcome(decision):
    return decision.time, decision.score, decision.speak, decision.text, decision.tokens


@pytest.mark.parametrize("bundle", ["tiny_bundle", "tiny_bundle_fp32"])
@pytest.mark.parametrize("count", [3, 8, 10])
def test_decisions_are_those_of_separate_sessions(request, bundle, count, tokens, calls):
    model = Model(request.getfixturevalue(bundle), threads=1)
    with model.session() as session:
        session.ask(TEXTS[0])
        threshold = middle(run(session, tokens, 40))
    thresholds = [threshold, 1.0, *[threshold * (0.9 + 0.02 * i) for i in range(count - 2)]]
    expected = apart(model, count, thresholds, tokens)
    assert not calls
    assert watch(model, count, thresholds, tokens) == expected

    assert calls and set(calls) <= set(range(FEWEST, 9))
    spoken = [sum(one[2] for one in decisions) for decisions in expected]
    assert sum(number > 5 for number in spoken) > 1 and spoken[1] < TIMESTEPS  # or this would test little
    if count == 10:
        assert 8 not in calls and 5 in calls  # two calls of five rather than one of eight and two alone


def test_evictions_are_each_session_s_own(model, tokens):
    """Windows fill at different times: of those asked late, and of those that speak."""
    evicted = []
    for threshold in (0.0, 1.0):
        with model.session(threshold=threshold) as session:
            session.ask(TEXTS[0])
            decisions = run(session, tokens, TIMESTEPS)
            evicted.append([i for i, one in enumerate(decisions) if "evict" in one.timing])
    assert evicted[0] and evicted[1] and 4 * model.stream_format.window_turns < TIMESTEPS


def test_a_bundle_without_the_graph_decides_one_by_one(model, tokens, calls, monkeypatch):
    monkeypatch.setattr(model._decoder, "batcher", None)
    assert len(watch(model, 4, [1.0] * 4, tokens)) == 4
    assert not calls


def test_the_graph_is_loaded_with_the_third_session(tiny_bundle_fp32, monkeypatch):
    loaded = []
    open_session = OrtBackend._open
    monkeypatch.setattr(
        OrtBackend, "_open", lambda self, path: loaded.append(path.name) or open_session(self, path)
    )
    model = Model(tiny_bundle_fp32, threads=1)
    for _ in range(5):
        model.session().close()
    sessions = [model.session(), model.session()]
    assert "decoder-batch.onnx" not in loaded
    sessions += [model.session(), model.session()]
    assert loaded.count("decoder-batch.onnx") == 1
    for session in sessions:
        session.close()


def test_two_questions_have_a_call_each(model, tokens, calls):
    watch(model, 2, [1.0, 1.0], tokens)
    assert not calls


def test_a_graph_that_does_not_fit_the_memory_is_left_out(
    tiny_bundle_fp32, tokens, calls, monkeypatch, caplog
):
    model = Model(tiny_bundle_fp32, threads=1)
    monkeypatch.setattr("edge_runtime.bundle.memory_plan.free_memory", lambda: 1000)
    with caplog.at_level(logging.WARNING):
        found = watch(model, 3, [1.0] * 3, tokens)
    assert [len(decisions) for decisions in found] == [TIMESTEPS] * 3 and not calls
    warnings = [record.getMessage() for record in caplog.records if "one by one" in record.getMessage()]
    assert len(warnings) == 1 and "of memory" in warnings[0]


def test_a_failed_call_leaves_every_session_as_it_was(model, tokens, monkeypatch):
    configs = [QueryConfig(text, policy=PolicySettings(threshold=0.0)) for text in TEXTS[:4]]
    loop = DecisionLoop(model, configs, EventIds("test", "recording"), lambda response: True)
    loop.ask_due(1.0)
    for index in range(20):
        loop.step(tokens[index], index)
    step = OrtBatch.step
    left = iter([True] * 3)  # the chunk and two tokens of texts succeed

    def fails(self, steps):
        if next(left, False):
            return step(self, steps)
        raise BackendError("decoder graph: out of order")

    monkeypatch.setattr(OrtBatch, "step", fails)
    with pytest.raises(BackendError, match="out of order"):
        loop.step(tokens[20], 20)
    monkeypatch.setattr(OrtBatch, "step", step)
    again = [outcome(one.decision) for one in loop.step(tokens[20], 20)]
    loop.close()

    loop = DecisionLoop(model, configs, EventIds("test", "recording"), lambda response: True)
    loop.ask_due(1.0)
    for index in range(20):
        loop.step(tokens[index], index)
    assert again == [outcome(one.decision) for one in loop.step(tokens[20], 20)]
    loop.close()


class SlowGraph:
    """Adds up what it is given."""

    def step(self, steps):
        return [np.array([cache.value + chunk]) for cache, chunk in steps]


class Cache:
    def __init__(self, value):
        self.value = value

    def step_alone(self, chunk):
        return np.array([self.value + chunk + 1000])


def test_threads_that_end_at_different_times_and_one_that_fails():
    batcher = StepBatcher(8, SlowGraph)

    def call(number):
        cache, found = Cache(number), []
        for chunk in range(number):
            found.append(int(batcher.step(cache, chunk)[0]))
            if number == 5 and chunk == 2:
                raise ValueError("five")
        return found

    futures = batcher.run([lambda number=number: call(number) for number in range(8)])
    assert [future.result() for future in futures[:5]] == [[], [1], [2, 3], [3, 4, 5], [4, 5, 6, 7]]
    with pytest.raises(ValueError, match="five"):
        futures[5].result()
    # The two that are left go on alone once fewer than three wait.
    assert futures[7].result() == [7, 8, 9, 10, 1011, 1012, 1013]
    assert int(batcher.step(Cache(1), 1)[0]) == 1002  # outside: alone


def test_two_groups_at_a_time_take_turns():
    batcher = StepBatcher(4, SlowGraph)
    results = {}

    def group(name):
        def call(number):
            return [int(batcher.step(Cache(number), chunk)[0]) for chunk in range(50)]

        for _ in range(10):
            futures = batcher.run([lambda number=number: call(number) for number in range(4)])
            results[name] = [future.result()[-1] for future in futures]

    threads = [threading.Thread(target=group, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results == {"a": [49, 50, 51, 52], "b": [49, 50, 51, 52]}


def test_ctrl_c_waits_for_the_calls_in_hand(monkeypatch):
    interrupts, ended = iter([KeyboardInterrupt()]), []

    def interrupted(futures):
        for error in interrupts:
            raise error
        return wait(futures)

    monkeypatch.setattr(batcher_module, "wait", interrupted)
    batcher = StepBatcher(8, SlowGraph)

    def call(number):
        time.sleep(0.05)
        batcher.step(Cache(number), 1)
        ended.append(number)

    with pytest.raises(KeyboardInterrupt):
        batcher.run([lambda number=number: call(number) for number in range(4)])
    assert sorted(ended) == [0, 1, 2, 3]


def test_only_the_cpu_batches(model):
    assert isinstance(model._decoder, OrtDecoder) and model._decoder.batcher.places == 8
