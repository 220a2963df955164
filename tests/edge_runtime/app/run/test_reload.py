"""edge-run.toml taken over while a camera is watched: a real file and a real model, scripted pictures."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edge_runtime
from edge_runtime.app.config_file import find_config
from edge_runtime.app.live_display import NoDisplay
from edge_runtime.app.run.control import Control, QueryChange
from edge_runtime.app.run.reload import LOOK_EVERY_S, FileWatch, Reloader
from edge_runtime.app.run.run_config import CliOptions, make_run_config
from edge_runtime.app.run.run_spec import RunSpec, WatchedCamera
from edge_runtime.app.run.runner import Runner
from edge_runtime.app.run.scheduler import round_robin
from edge_runtime.events.query_config import QueryConfig
from edge_runtime.events.records import Event, EventMaker
from edge_runtime.sinks import Sinks
from tests.edge_runtime.list_sink import ListSink

DOOR = """
[[camera]]
name = "door"
source = "test:"
threshold = 0.0
repeat = 0.0
"""
WHAT = '[[camera.ask]]\ntext = "What does the person do?"\n'
HOW_MANY = '[[camera.ask]]\ntext = "How many red cars passed by?"\n'


class Frame:
    captured_at = 0.0

    def __init__(self, index: int) -> None:
        self.index = index
        self.image = np.full((64, 64, 3), 37 * index % 256, np.uint8)


class ScriptedCamera:
    """A file of nine pictures; before those in ``changes`` something is done."""

    live, description, decoder, dropped, reconnects = False, "scripted camera", "none", 0, 0

    def __init__(self, changes: dict[int, Any]) -> None:
        self.masks: Any = ()
        self.changes = changes
        self._left = iter(range(9))

    def read(self, timeout_s: float) -> Any:
        return Frame(next(self._left))

    def set_masks(self, masks: Any) -> None:
        self.masks = masks

    def close(self) -> None: ...


@dataclass
class Run:
    events: list[Event]
    told: list[str]
    warned: list[str]
    camera: ScriptedCamera
    runner: Runner

    def said(self, query: str) -> list[float]:
        return [e["time"] for e in self.events if e["type"] == "response" and e["query"] == query]

    def queries(self) -> list[tuple[str, str, float]]:
        return [(e["query"], e["action"], e["time"]) for e in self.events if e["type"] == "query"]


@pytest.fixture(scope="module")
def model(tiny_bundle):
    return edge_runtime.load(tiny_bundle, threads=1)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "edge-run.toml"


def watch(model, file: Path, first: str, changes: dict[int, str], **options: Any) -> Run:
    """Watch nine timesteps; before those of ``changes`` the file is written anew and a reload asked for."""
    file.write_text(first)
    options = CliOptions(("door",), **options)

    def reread():
        return make_run_config(options, find_config(file))

    spec = RunSpec(reread(), reread, follow_file=False)
    sink, camera = ListSink(), ScriptedCamera(changes)
    queries = spec.config.cameras[0].queries
    runner = Runner(model, queries, EventMaker("door", "identity"), Sinks([sink]), NoDisplay())
    run = Run(sink.events, [], [], camera, runner)
    reloader = Reloader(spec, [WatchedCamera(spec.config.cameras[0], runner, camera)])
    rounds = iter(range(100))

    def between() -> None:
        number = next(rounds)
        if number in changes:
            file.write_text(changes[number])
            reloader.request()
        reloader.look()

    runner.begin(camera)
    log, handler = logging.getLogger("edge_runtime.app.run.reload"), logging.Handler()
    handler.emit = lambda record: (run.warned if record.levelno > logging.INFO else run.told).append(
        record.getMessage()
    )
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    round_robin([runner], between=between)
    log.removeHandler(handler)
    assert runner.telemetry.timesteps == 9  # whatever changed, no frame was lost
    return run


def test_a_question_that_is_added_is_asked_at_the_next_timestep(model, file):
    run = watch(model, file, DOOR + WHAT, {4: DOOR + WHAT + HOW_MANY})
    assert run.queries() == [("q1", "asked", 0.0), ("q2", "asked", 4.0)]
    assert run.said("q2") == [5.0, 6.0, 7.0, 8.0, 9.0] and len(run.said("q1")) == 9
    assert run.told == [f"{file} taken over: door: q2 added"] and not run.warned


def test_a_question_that_stays_does_not_notice(model, file):
    """Its session, its memory and its answers are those of a run in which nothing changed."""
    changed = watch(model, file, DOOR + WHAT, {4: DOOR + HOW_MANY + WHAT, 6: DOOR + WHAT})
    alone = watch(model, file, DOOR + WHAT, {})

    def of_the_first(run: Run) -> list[tuple[float, str, float]]:
        return [
            (e["time"], e["text"], e["score"])
            for e in run.events
            if e.get("text") and e["query"] == "q1" and "score" in e
        ]

    assert of_the_first(changed) == of_the_first(alone)


def test_a_question_that_is_removed_is_asked_no_more_and_its_name_is_not_given_again(model, file):
    run = watch(model, file, DOOR + WHAT, {3: DOOR + HOW_MANY, 6: DOOR + WHAT})
    assert run.queries() == [
        ("q1", "asked", 0.0),
        ("q1", "removed", 3.0),
        ("q2", "asked", 3.0),
        ("q2", "removed", 6.0),
        ("q3", "asked", 6.0),
    ]
    assert (run.said("q1"), run.said("q2"), run.said("q3")) == ([1, 2, 3], [4, 5, 6], [7, 8, 9])


def test_threshold_and_policy_change_and_what_was_sent_still_counts(model, file):
    silent = DOOR.replace("threshold = 0.0", "threshold = 1.0")
    rare = DOOR + "budget = 4\n"
    run = watch(model, file, DOOR + WHAT, {3: silent + WHAT, 5: rare + WHAT})
    assert run.said("q1") == [1, 2, 3, 6]
    assert run.runner.telemetry.suppressed == {"budget": 3}
    assert [action for _, action, _ in run.queries()] == ["asked", "changed", "changed"]
    assert run.told[0].endswith("door: q1 changed")


def test_the_bundles_own_threshold_comes_back(model, file):
    run = watch(model, file, DOOR + WHAT, {2: DOOR.replace("threshold = 0.0\n", "") + WHAT})
    assert run.runner.loop.queries[0].session.threshold == model.stream_format.threshold


def test_masks_reach_the_camera_beside_those_of_the_command_line(model, file):
    typed = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))
    mask = "mask = [[[0, 0], [1, 0], [1, 1]]]\n"
    run = watch(model, file, DOOR + WHAT, {2: DOOR + mask + WHAT}, masks=(typed,))
    assert run.camera.masks == (((0.0, 0.0), (1.0, 0.0), (1.0, 1.0)), typed)
    assert run.told == [f"{file} taken over: door: masks changed"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (DOOR + "tresh = 1\n" + WHAT, "{file}:7: camera.tresh: unknown key; did you mean threshold?"),
        (DOOR + "[[camera.ask]\n", "{file}: not valid TOML: "),
        (DOOR, "{file}: door: nothing to watch for"),
        (DOOR.replace("door", "gate") + WHAT, "door: no such file, and no camera of that name in {file}"),
        (DOOR + f'[[camera.ask]]\ntext = "{"word " * 2000}"\n', "{file}: query: "),
    ],
)
def test_a_file_that_cannot_be_used_is_said_in_one_line_and_changes_nothing(model, file, wrong, said):
    run = watch(model, file, DOOR + WHAT, {3: wrong, 6: DOOR + WHAT + HOW_MANY})
    assert len(run.warned) == 1 and "\n" not in run.warned[0]
    assert run.warned[0].startswith(said.format(file=file))
    assert run.warned[0].endswith("; the configuration in use stays")
    assert len(run.said("q1")) == 9 and run.said("q2") == [7, 8, 9]


def test_a_reload_takes_all_or_nothing(model, file):
    """The first question could be taken over, the second cannot be asked: neither is."""
    run = watch(
        model, file, DOOR + WHAT, {3: DOOR + HOW_MANY + f'[[camera.ask]]\ntext = "{"word " * 2000}"\n'}
    )
    assert run.queries() == [("q1", "asked", 0.0)] and len(run.said("q1")) == 9


def test_what_needs_a_restart_is_named_and_the_rest_is_taken_over(model, file):
    other = DOOR.replace('"test:"', '"test:snow"') + 'fps = 2\ntransport = "udp"\nrotate = 90\n'
    other += '[[camera.zone]]\nname = "lawn"\npolygon = [[0, 0], [1, 0], [1, 1]]\n'
    hook = '[[webhook]]\nname = "alerts"\nurl = "https://example.com/in"\n'
    changed = '[runtime]\nbundle = "other"\nmetrics = "9464"\n' + other + WHAT + HOW_MANY + hook
    run = watch(model, file, DOOR + WHAT, {3: changed, 5: DOOR + WHAT})
    assert run.warned == [
        f"{file}: runtime.bundle, runtime.metrics, webhook, door: source, door: fps, "
        "door: zone, door: transport, door: rotate take effect after a restart"
    ]
    assert run.said("q2") == [4, 5]


def test_a_camera_that_fails_over_a_change_leaves_the_others_alone(model, file, logged):
    """Its masks cannot be set, a mistake of ours: it ends as after any failure of its own."""

    class Unmaskable(ScriptedCamera):
        def set_masks(self, masks: Any) -> None:
            raise KeyError("a mistake of ours")

    both = DOOR + WHAT + DOOR.replace("door", "hall") + WHAT
    file.write_text(both)
    options = CliOptions(("door", "hall"))

    def reread():
        return make_run_config(options, find_config(file))

    spec, sink = RunSpec(reread(), reread, follow_file=False), ListSink()
    watched = []
    for config, camera in zip(spec.config.cameras, (Unmaskable({}), ScriptedCamera({})), strict=True):
        runner = Runner(
            model, config.queries, EventMaker(config.name, "identity"), Sinks([sink]), NoDisplay()
        )
        runner.begin(camera)
        watched.append(WatchedCamera(config, runner, camera))
    reloader = Reloader(spec, watched)
    rounds, ended = iter(range(100)), []

    def between() -> None:
        if next(rounds) == 3:
            file.write_text(both.replace("repeat = 0.0", "repeat = 0.0\nmask = [[[0, 0], [1, 0], [1, 1]]]"))
            reloader.request()
        reloader.look()

    round_robin([one.runner for one in watched], between=between, ended=lambda one: ended.append(one.stream))
    door, hall = (one.runner for one in watched)
    assert isinstance(door.error, KeyError) and hall.error is None
    assert (door.telemetry.timesteps, hall.telemetry.timesteps) == (3, 9) and ended == ["door", "hall"]
    assert logged == [f"{file} taken over: hall: masks changed"]


def test_a_reload_that_fails_by_a_mistake_of_ours_is_one_line(model, file, monkeypatch):
    def broken(self, queries):
        raise KeyError("a mistake\nof ours")

    monkeypatch.setattr(Runner, "prepare", broken)
    run = watch(model, file, DOOR + WHAT, {3: DOOR + WHAT + HOW_MANY})
    assert len(run.said("q1")) == 9 and not run.told
    (line,) = run.warned
    assert line.startswith(f"{file}: could not be taken over: unexpected KeyError: 'a mistake\\nof ours'; ")


def test_a_file_that_is_written_is_seen_once_it_lies_still(file):
    file.write_text("a")
    watch = FileWatch(file)
    assert not watch.settled()
    file.write_text("half of it")
    assert not watch.settled()  # perhaps somebody is still writing
    file.write_text("the whole of it")
    assert not watch.settled()
    assert watch.settled() and not watch.settled()
    file.unlink()
    assert not watch.settled() and not watch.settled()  # editors put another in its place
    other = file.with_name("new")
    other.write_text("the whole of it")
    os.replace(other, file)
    assert not watch.settled() and watch.settled()


def test_the_file_is_looked_at_once_a_second_unless_told_not_to(file, logged):
    file.write_text(DOOR + WHAT)
    options = CliOptions(("door",))
    spec = RunSpec(
        make_run_config(options, find_config(file)), lambda: make_run_config(options, find_config(file))
    )
    now = [0.0]
    follows = Reloader(spec, [], lambda: now[0])
    ignores = Reloader(RunSpec(spec.config, spec.reread, follow_file=False), [])
    file.write_text(DOOR + WHAT + HOW_MANY)
    for seconds, expected in ((0.5, 0), (1.0, 0), (1.5, 0), (2.1, 1), (9.0, 1)):
        now[0] = seconds * LOOK_EVERY_S
        follows.look()
        ignores.look()
        assert len(logged) == expected, seconds
    ignores.request()
    ignores.look()
    assert len(logged) == 2


def test_what_was_changed_while_it_runs_stays_unless_the_file_says_something_else(model, file):
    """Over HTTP or MQTT: one question asked, one withdrawn, one paused with another threshold."""
    why, when = ('[[camera.ask]]\ntext = "Why?"\n', '[[camera.ask]]\ntext = "When?"\n')
    file.write_text(DOOR + WHAT + HOW_MANY + why)
    options = CliOptions(("door",))

    def reread():
        return make_run_config(options, find_config(file))

    spec, sink, control = RunSpec(reread(), reread, follow_file=False), ListSink(), Control()
    config = spec.config.cameras[0]
    runner = Runner(model, config.queries, EventMaker("door", "identity"), Sinks([sink]), NoDisplay())
    watched = [WatchedCamera(config, runner, ScriptedCamera({}))]
    runner.begin(watched[0].camera)
    control.watch(watched)
    reloader = Reloader(spec, watched)

    def changed(call: Any) -> None:
        with ThreadPoolExecutor(1) as pool:
            future = pool.submit(call)
            while not future.done():
                control.carry_out()

    def texts_after(content: str) -> list[str]:
        file.write_text(content)
        reloader.take_over()
        return [query.text for query in control.queries("door")]

    changed(lambda: control.ask("door", QueryConfig("Who?")))
    changed(lambda: control.withdraw("door", "q2"))
    changed(lambda: control.change("door", "q1", QueryChange(threshold=0.7, paused=True)))
    changed(lambda: control.change("door", "q3", QueryChange(text="Whose?")))
    first = "What does the person do?"
    assert texts_after(DOOR + HOW_MANY + WHAT + why) == [first, "Whose?", "Who?"]
    assert texts_after(DOOR + WHAT + HOW_MANY + when) == [first, "When?", "Whose?", "Who?"]
    assert control.queries("door")[0].threshold == 0.7
    assert texts_after(DOOR + WHAT + "threshold = 0.2\n" + when) == [first, "When?", "Whose?", "Who?"]
    assert control.queries("door")[0].threshold == 0.2 and control.queries("door")[0].paused
    assert texts_after(DOOR + when + HOW_MANY) == ["When?", "How many red cars passed by?", "Whose?", "Who?"]
    runner.finish()
