"""Questions about many stories: keywords match, quiet questions have no answers, times make sense."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metric.annotations import Annotation, Response
from benchmarks.metric.annotations import Answer as TimedAnswer
from benchmarks.metric.annotations import Query as TimedQuery
from benchmarks.metric.judges import KeywordsJudge
from benchmarks.metric.tasks import TASKS
from train.synthetic.detections.facts import Facts, Question
from train.synthetic.detections.questions import Asker, ask_all
from train.synthetic.detections.scene import look
from train.synthetic.detections.stories import tell

STORIES = 150


def facts(index: int) -> Facts:
    family, scene = tell(np.random.default_rng([11, index]))
    return Facts.of(family, scene, look(scene))


@pytest.fixture(scope="module")
def stories() -> list[Facts]:
    return [facts(index) for index in range(STORIES)]


@pytest.fixture(scope="module")
def asked(stories: list[Facts]) -> list[tuple[Facts, Question]]:
    return [
        (story, question)
        for index, story in enumerate(stories)
        for question in ask_all(np.random.default_rng([12, index]), story, most=30, quiet=6)
    ]


def test_the_keywords_of_an_answer_match_its_own_text(asked: list[tuple[Facts, Question]]) -> None:
    judge, checked = KeywordsJudge(), set()
    for story, question in asked:
        for answer in question.answers:
            timed = TimedAnswer(
                answer.start, answer.end, answer.text, extra={"keywords": [list(g) for g in answer.keywords]}
            )
            record = Annotation(
                "q",
                "c.npy",
                story.scene.duration,
                question.task,
                TimedQuery(0.0, "?"),
                (timed,),
                Path("a"),
                1,
            )
            assert judge.accuracy(record, timed, Response(answer.start, answer.text)) == 1.0, answer
            assert judge.accuracy(record, timed, Response(answer.start, "Hello.")) == 0.0, answer
            checked.add(question.kind)
    assert len(checked) > 25


def test_hard_and_quiet_questions_have_no_answers(stories: list[Facts]) -> None:
    hard = 0
    for index, story in enumerate(stories):
        for question in Asker(np.random.default_rng([13, index]), story).quiet(6):
            assert question.answers == ()
            hard += question.hard
    assert hard > STORIES


def test_hard_questions_are_about_what_is_there(asked: list[tuple[Facts, Question]]) -> None:
    assert all(not question.answers for _, question in asked if question.hard)
    assert {question.kind for _, question in asked if question.hard} >= {"enter_colour", "stop", "two"}


def test_questions_and_answers_lie_within_the_clip(asked: list[tuple[Facts, Question]]) -> None:
    for story, question in asked:
        assert question.task in TASKS
        assert 0 <= question.time < story.scene.duration
        starts = [answer.start for answer in question.answers]
        assert starts == sorted(starts)
        assert all(question.time <= a.start <= a.end <= story.scene.duration + 3 for a in question.answers)


def test_scenes_in_which_nothing_happens_ask_nothing_that_is_answered(stories: list[Facts]) -> None:
    still = [story for story in stories if story.family == "still"]
    assert still
    for story in still:
        assert story.events == ()
        asked = ask_all(np.random.default_rng(1), story, most=30, quiet=4)
        assert len(asked) >= 3 and not any(question.answers for question in asked)


def test_every_task_is_asked(asked: list[tuple[Facts, Question]]) -> None:
    assert {question.task for _, question in asked} == {"AA", "EU", "GP", "OU", "RF", "TG", "TP"}


def test_an_event_of_others_is_no_answer(stories: list[Facts]) -> None:
    """The same story without its dogs never has an answer about dogs."""
    for index, story in enumerate(stories):
        without = [n for n, actor in enumerate(story.scene.actors) if actor.kind.name == "dog"]
        if not without:
            continue
        events = tuple(event for event in story.events if event.who not in without)
        bare = replace(story, events=events)
        for question in Asker(np.random.default_rng([14, index]), bare).about_events():
            assert not any("dog" in answer.text for answer in question.answers)
