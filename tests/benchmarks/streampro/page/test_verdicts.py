"""What became of responses and answers, by hand."""

from __future__ import annotations

import pytest

from benchmarks.metric.annotations import Annotation, Answer, Prediction, Query, Response
from benchmarks.metric.judges import ExactJudge
from benchmarks.metric.score import score_question
from benchmarks.metric.tasks import TASKS
from benchmarks.streampro.page.verdicts import VERDICTS, judge_question


def question(task: str, *answers: Answer, asked: float = 0.0) -> Annotation:
    return Annotation("q", "v.mp4", 60.0, task, Query(asked, "?"), answers)


OPEN, SHUT = Answer(10, 11, "The door opens."), Answer(30, 31, "The door shuts.")


def test_each_verdict() -> None:
    verdict = judge_question(
        question("OU", OPEN, SHUT),
        [
            Response(10, "The door opens."),
            Response(12, "The door opens."),
            Response(20, "The door opens."),
            Response(31, "The window shuts."),
        ],
        ExactJudge(),
    )
    assert [r.verdict for r in verdict.responses] == ["right", "surplus", "outside", "wrong"]
    assert [r.answer for r in verdict.responses] == [0, 0, None, 1]
    assert [r.offset for r in verdict.responses] == [0, 2, 10, 1]  # 20 s: as near to 30 as to 10, the first
    assert verdict.answers[0].window == (7, 13) and verdict.answers[0].best == (10, 10)
    assert verdict.failed


def test_late_words_are_partly_right() -> None:
    late = judge_question(question("OU", OPEN), [Response(12.5, "The door opens.")], ExactJudge())
    assert [r.verdict for r in late.responses] == ["partial"]  # 1 - 2.5 / 4
    assert not late.failed


@pytest.mark.parametrize(
    ("time", "offset"), [(9.0, -1.0), (10.0, 0.0), (10.5, 0.0), (11.0, 0.0), (13.5, 2.5)]
)
def test_offset_from_an_interval(time: float, offset: float) -> None:
    verdict = judge_question(question("EU", OPEN), [Response(time, "The door opens.")], ExactJudge())
    assert verdict.responses[0].offset == offset


def test_nothing_said_and_nothing_to_say() -> None:
    assert judge_question(question("EU", OPEN), [], ExactJudge()).failed
    assert not judge_question(question("EU"), [], ExactJudge()).failed
    spoken = judge_question(question("EU"), [Response(1, "What?")], ExactJudge())
    assert spoken.failed and spoken.responses[0].offset is None


@pytest.mark.parametrize("task", sorted(TASKS))
def test_worth_adds_up_to_the_score(task: str) -> None:
    asked = question(task, OPEN, Answer(12, 14, "20s-22s"), SHUT, asked=8.0)
    responses = [Response(t, "20s-22s" if t % 3 else "The door opens.") for t in range(8, 36)]
    verdict = judge_question(asked, responses, ExactJudge())
    total = sum(a.match.product for a in verdict.answers if a.match)
    scored = score_question(asked, Prediction("q", tuple(responses)), ExactJudge())
    assert scored.recall == pytest.approx(total / 3)
    kept = [a.match.response for a in verdict.answers if a.match]
    drawn = [i for i, r in enumerate(verdict.responses) if r.verdict in ("right", "partial", "wrong")]
    assert sorted(kept) == drawn and len(kept) == scored.matched
    assert {r.verdict for r in verdict.responses} <= set(VERDICTS)
