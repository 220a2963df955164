"""Questions outside what a bundle knows: said once, not asked; and ``edge-run questions``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

import edge_runtime
from edge_runtime.app.cli import commands
from edge_runtime.app.live_display import NoDisplay
from edge_runtime.app.run.control import QueryChange
from edge_runtime.app.run.runner import Runner
from edge_runtime.engine.query import Query
from edge_runtime.events.policy import PolicySettings
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import EventMaker
from edge_runtime.sinks import Sinks
from tests.edge_runtime.app.run.test_control import running
from tests.edge_runtime.app.run.test_runner import Frame, ScriptedCamera
from tests.edge_runtime.list_sink import ListSink

ALWAYS = PolicySettings(threshold=0.0, repeat_s=0.0)
PIZZA, VISITOR = "Tell me when the pizza arrives.", "Tell me when a visitor arrives."


def watch(bundle: Path, *configs: QueryConfig) -> tuple[list[dict[str, Any]], Runner]:
    sink = ListSink()
    runner = Runner(
        edge_runtime.load(bundle, threads=1),
        configs,
        EventMaker("door", "clip"),
        Sinks([sink]),
        NoDisplay(),
    )
    runner.begin(ScriptedCamera([Frame(n, np.zeros((32, 32, 3), np.uint8)) for n in range(3)]))
    while not runner.over:
        runner.step(0.1)
    runner.finish()
    return sink.events, runner


def test_a_question_outside_is_reported_once_and_never_asked(
    knowing: Path, caplog: pytest.LogCaptureFixture
) -> None:
    events, _ = watch(knowing, QueryConfig(PIZZA, policy=ALWAYS), QueryConfig(VISITOR, policy=ALWAYS))
    asked = [(one["query"], one["action"], one["text"]) for one in events if one["type"] == "query"]
    assert asked == [("q1", "not_trained", PIZZA), ("q2", "asked", VISITOR)]
    assert {one["query"] for one in events if one["type"] == "response"} == {"q2"}
    (line,) = [record.getMessage() for record in caplog.records if "not trained" in record.getMessage()]
    assert line.startswith(f'door: q1 "{PIZZA}": knowing was not trained for "pizza"')


def test_alone_it_costs_neither_decoder_nor_vision(knowing: Path) -> None:
    events, runner = watch(knowing, QueryConfig(PIZZA, policy=ALWAYS))
    assert events[-1]["timesteps"] == 3 and events[-1]["responses"] == 0
    assert runner.telemetry.decision.percentile(50) is None


def test_ask_anyway_asks_it(knowing: Path) -> None:
    events, _ = watch(knowing, QueryConfig(PIZZA, policy=ALWAYS, ask_anyway=True))
    assert [one["action"] for one in events if one["type"] == "query"] == ["asked"]
    assert sum(one["type"] == "response" for one in events) == 3


def test_a_query_takes_up_ask_anyway_and_another_text(knowing: Path) -> None:
    query = Query(edge_runtime.load(knowing, threads=1), "q1", QueryConfig(PIZZA), live=False, due=0.0)
    query.ask()
    assert query.unknown_words == ("pizza",) and query.config.paused
    query.reword(VISITOR)
    assert query.unknown_words == () and not query.config.paused
    query.reword(PIZZA)
    query.configure(QueryConfig(PIZZA, ask_anyway=True, paused=True))  # as a reload of the file does
    assert query.unknown_words == () and not query.config.paused


def test_asked_while_a_run_goes_on_the_answer_already_says_that_it_is_paused(knowing: Path) -> None:
    model = edge_runtime.load(knowing, threads=1)
    with running(model, QueryConfig(VISITOR, policy=ALWAYS)) as run:
        run.frames(1)
        asked = run.control.ask("door", QueryConfig(PIZZA, policy=ALWAYS))
        assert asked.paused and not asked.asked
        run.frames(1)
        assert run.actions()[-1] == ("q2", "not_trained", 1.0) and run.said("q2") == []
        assert not run.control.change("door", "q2", QueryChange(text=VISITOR)).paused
        run.frames(1)
        assert run.said("q2") == [3.0]
        assert run.control.change("door", "q2", QueryChange(text=PIZZA)).paused
        run.control.change("door", "q2", QueryChange(paused=False))  # anyway, before it would have been asked
        run.frames(1)
        assert run.said("q2") == [3.0, 4.0]


def test_a_watcher_warns_and_stays_silent(knowing: Path, caplog: pytest.LogCaptureFixture) -> None:
    with edge_runtime.watch(knowing, threads=1) as watcher:
        watcher.ask(PIZZA, policy=ALWAYS)
        frame = np.zeros((32, 32, 3), np.uint8)
        assert [watcher.push(frame, t) for t in (1.0, 2.0)] == [[], []]
        assert watcher.ask(VISITOR, policy=ALWAYS) == "q2"
        assert [one.query for one in watcher.push(frame, 3.0)] == ["q2"]
    assert sum("not trained" in record.getMessage() for record in caplog.records) == 1


def test_the_command_shows_what_works_and_what_does_not(knowing: Path) -> None:
    page = CliRunner().invoke(commands, ["questions", "--bundle", str(knowing)]).output
    for words in (
        "knowing: People at a door.",
        "person (someone, visitor ...)",
        "Questions that work\n  Tell me when someone comes.",
        "Questions that do not\n  Tell me when the pizza arrives.",
    ):
        assert words in page
    found = json.loads(CliRunner().invoke(commands, ["questions", "--bundle", str(knowing), "--json"]).output)
    assert found["bundle"] == "knowing" and found["knowledge"]["domain"] == "People at a door."


def test_the_command_on_a_bundle_that_does_not_say(tiny_bundle: Path) -> None:
    page = CliRunner().invoke(commands, ["questions", "--bundle", str(tiny_bundle)]).output
    assert "does not say what it was trained for" in page


def test_nano_knows_generated_clips_alone() -> None:
    page = CliRunner().invoke(commands, ["questions", "--bundle", "nano"]).output
    assert page.startswith("nano: Animated emoji clips generated by this project.")
