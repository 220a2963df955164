"""False alarms by hand: responses per minute where nothing relevant happens."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    FormatError,
    Prediction,
    Query,
    Response,
    write_annotations,
    write_predictions,
)
from benchmarks.metric.false_alarms import false_alarms
from benchmarks.streampro.__main__ import cli


def question(name, task="AA", clip="a.mp4", asked=0.0, duration=60.0, answers=()):
    return Annotation(name, clip, duration, task, Query(asked, "?"), answers)


def said(name, count):
    return Prediction(name, tuple(Response(10.0 + i, "Alert: fire.") for i in range(count)))


QUESTIONS = [
    question("q1", asked=30.0),  # half a minute
    question("q2", task="OU", clip="b.mp4", duration=90.0),
    question("q3", clip="c.mp4"),
    question("answered", clip="d.mp4", answers=(Answer(5.0, 6.0, "Alert: fire."),)),
]


def test_rate_by_hand():
    found = false_alarms(QUESTIONS, [said("q1", 2), said("q2", 1), said("answered", 9)])
    assert (found.overall.questions, found.overall.clips, found.overall.with_alarms) == (3, 3, 2)
    assert found.overall.responses == 3 and found.overall.minutes == pytest.approx(3.0)
    assert found.overall.per_minute == pytest.approx(1.0)
    assert list(found.tasks) == ["OU", "AA"]
    assert found.tasks["OU"].per_minute == pytest.approx(1 / 1.5)
    assert found.tasks["AA"].per_minute == pytest.approx(2 / 1.5)


def test_interval_is_of_clips_and_holds_the_rate():
    many = [question(f"{clip}/{i}", clip=f"{clip}.mp4") for clip in range(20) for i in range(3)]
    found = false_alarms(many, [said(a.id, int(a.video[:-4]) % 2) for a in many], seed=4)
    low, high = found.overall.interval
    assert low < found.overall.per_minute == 0.5 < high
    # Three questions of a clip always agree here: the interval must be that of 20 independent clips, not 60.
    single = false_alarms(many[::3], [said(a.id, int(a.video[:-4]) % 2) for a in many[::3]], seed=4)
    assert found.overall.interval == pytest.approx(single.overall.interval)
    assert false_alarms(many, [], bootstrap=0).overall.interval is None
    assert false_alarms(many, []).overall.interval == (0.0, 0.0)


def test_files_without_silent_questions_and_unknown_ids_are_refused():
    with pytest.raises(FormatError, match="every question has one"):
        false_alarms(QUESTIONS[3:], [])
    with pytest.raises(FormatError, match="'nobody'"):
        false_alarms(QUESTIONS, [said("nobody", 1)])


def test_command(tmp_path):
    write_annotations(tmp_path / "a.jsonl", QUESTIONS)
    write_predictions(tmp_path / "p.jsonl", [said("q3", 3)])
    arguments = ["false-alarms", "--annotations", str(tmp_path / "a.jsonl")]
    arguments += ["--predictions", str(tmp_path / "p.jsonl"), "--json", str(tmp_path / "s.json")]
    done = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert done.exit_code == 0 and "1.00" in done.output
    assert json.loads((tmp_path / "s.json").read_text())["overall"]["responses"] == 3
