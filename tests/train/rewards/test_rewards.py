"""The reward against cases worked out by hand, for every task."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import ExactJudge
from edge_runtime.errors import ConfigError
from train.rewards.base import Judges
from train.rewards.format import FormatSettings, format_reward
from train.rewards.judges import open_rubric_judge, read_verdicts
from train.rewards.settings import JudgeSettings
from train.rewards.trajectory import TrajectorySettings
from train.rewards.turn import TurnSettings, turn_reward
from train.rewards.weighted_sum import PAPER, WeightedSum
from train.rollout.trajectory import Prompt, Trajectory
from train.synthetic.sprites.rubrics import write_rubric

_spec = importlib.util.spec_from_file_location(
    "chat_server_of_the_benchmarks", Path(__file__).parents[2] / "benchmarks" / "conftest.py"
)
_servers = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = _servers
_spec.loader.exec_module(_servers)
chat_server = _servers.chat_server

RIGHT, WRONG = "The lock is now open.", "The lock is now shut."


def question(task, *spans, query=0.0, rubric=()):
    answers = tuple(Answer(start, end, text) for start, end, text in spans)
    return Annotation("q", "q.mp4", 60.0, task, Query(query, "?"), answers, tuple(rubric))


def turn(annotation, *said, judge=None, **settings):
    responses = [Response(time, text) for time, text in said]
    return turn_reward(annotation, responses, judge or ExactJudge(), TurnSettings(**settings))


# Each value is 2 (S_time + S_acc) / (N_pred + N_gt) with S_time = 1 - distance / 8.
CASES = {
    "EU inside": ("EU", (10, 14, RIGHT), 0, [(12, RIGHT)], 2 * (1 + 1) / 2),
    "EU 4 s late, wrong": ("EU", (10, 14, RIGHT), 0, [(18, WRONG)], 2 * (0.5 + 0) / 2),
    "EU 9 s late": ("EU", (10, 14, RIGHT), 0, [(23, RIGHT)], 0.0),
    "TP 2 s early": ("TP", (10, 14, RIGHT), 0, [(8, RIGHT)], 2 * (0.75 + 1) / 2),
    "OU 4 s late and one for nothing": ("OU", (10, 14, RIGHT), 0, [(14, RIGHT), (30, RIGHT)], 2 * 1.5 / 3),
    "AA 3 s early, wrong": ("AA", (10, 14, RIGHT), 0, [(7, WRONG)], 2 * 0.625 / 2),
    "AA before the query": ("AA", (10, 14, RIGHT), 8, [(7, RIGHT)], 0.0),
    "TG 1 s after the end": ("TG", (10, 20, "10s-20s"), 0, [(21, "12s-20s")], 2 * (0.875 + 0.8) / 2),
    "GP 1 s early": ("GP", (10, 15, RIGHT), 2, [(9, RIGHT)], 2 * (0.875 + 1) / 2),
    "GP late": ("GP", (10, 15, RIGHT), 2, [(11, RIGHT)], 0.0),
    "GP first step": ("GP", (2, 7, RIGHT), 2, [(4, RIGHT)], 2 * (0.75 + 1) / 2),
    "RF 5 s ahead of the hazard": ("RF", (20, 21, RIGHT), 2, [(15, RIGHT)], 2 * (0.75 + 1) / 2),
    "RF too late": ("RF", (20, 21, RIGHT), 2, [(18, RIGHT)], 0.0),
    "right text at the window's edge": ("OU", (10, 14, RIGHT), 0, [(18, RIGHT)], 2 * (0 + 1) / 2),
    "nothing right at the window's edge": ("OU", (10, 14, RIGHT), 0, [(18, WRONG)], 0.0),
    "silence": ("OU", (10, 14, RIGHT), 0, [], 0.0),
}


@pytest.mark.parametrize("name", CASES)
def test_turn_reward_by_hand(name):
    task, span, query, said, expected = CASES[name]
    assert turn(question(task, span, query=query), *said) == pytest.approx(expected)


class Graded:
    """A judge whose verdicts are written into the responses, as those of a language model would be."""

    name = "graded"

    def accuracy(self, annotation, answer, response):
        return float(response.text)


def test_worked_example_of_the_paper():
    """Figure 4: S' of 1.67 and 1.20 and two responses to two answers; 2 x 2.87 / 4 by its equation 6."""
    two_steps = question("OU", (10, 12, "a"), (30, 32, "b"))
    said = [(10 + 8 * 0.13, "0.8"), (30 + 8 * 0.4, "0.6")]  # S_time 0.87 and 0.60
    assert turn(two_steps, *said, judge=Graded()) == pytest.approx(1.435)
    assert turn(two_steps, *said, judge=Graded(), halve=True) == pytest.approx(0.7175)


def test_matching_orders_differ():
    swapped = question("OU", (10, 11, "a"), (12, 13, "b"))
    said = [(9, "b"), (11, "a")]
    # Ground truth first: a takes 11 (0.875 + 1), b is left 9 (0.625 + 1).
    assert turn(swapped, *said) == pytest.approx(2 * 3.5 / 4)
    # Prediction first: both go to a, which keeps the better one.
    assert turn(swapped, *said, matching="prediction-first") == pytest.approx(2 * 1.875 / 4)


def test_tau_and_agency_window_are_settings():
    late = question("OU", (10, 11, RIGHT))
    assert turn(late, (14, RIGHT), tau=3.0) == 0.0
    assert turn(late, (12, RIGHT), tau=4.0) == pytest.approx(1.5)
    instruction = question("GP", (10, 15, RIGHT), query=2)
    assert turn(instruction, (11, RIGHT), one_sided_agency=False) == pytest.approx(1.875)


def test_nothing_to_say_and_nothing_said_is_perfect():
    assert turn(question("AA")) == 2.0
    assert turn(question("AA"), halve=True) == 1.0
    assert turn(question("AA"), (5, RIGHT)) == 0.0


def trajectory(annotation, *said, valid=(True,), offset=0):
    prompt = Prompt(annotation, torch.zeros(1), (0,), 0, offset, 1.0)
    nothing = torch.zeros(0, dtype=torch.long)
    responses = tuple(Response(time, text) for time, text in said)
    return Trajectory(prompt, nothing, nothing, nothing, torch.zeros(0), responses, valid)


def test_whole_reward():
    reward = WeightedSum(PAPER, Judges(ExactJudge()))
    asked = question("OU", (10, 11, RIGHT), rubric=write_rubric([RIGHT]))  # seven statements
    perfect, mute, broken = reward(
        [
            trajectory(asked, (10, RIGHT)),
            trajectory(asked),
            trajectory(asked, (10, RIGHT), valid=(True, False, True, True)),
        ]
    )
    assert perfect.parts == {"format": 1.0, "turn": 2.0, "trajectory": 1.0}
    assert perfect.total == pytest.approx(0.1 + 0.45 * 2 + 0.45)
    assert mute.parts["turn"] == 0.0
    assert mute.parts["trajectory"] == pytest.approx(1 / 7)  # it says not too much, no more
    assert broken.total == pytest.approx(0.075 + 0.9 + 0.45)
    turn_only = PAPER | {"turn": TurnSettings(0.9), "trajectory": TrajectorySettings(0.0)}
    weighed = WeightedSum(turn_only, Judges(ExactJudge()))([trajectory(asked, (10, RIGHT))])[0]
    assert weighed.total == pytest.approx(0.1 + 1.8)


def test_reward_does_not_depend_on_where_the_clip_lies_on_the_clock():
    reward = WeightedSum(PAPER, Judges(ExactJudge()))
    asked = question("TG", (10, 20, "10s-20s"), rubric=write_rubric(["10s-20s"]))
    early = trajectory(asked, (21, "10s-20s"))
    late = trajectory(asked, (521, "510s-520s"), offset=500)
    assert reward([late]) == reward([early])
    assert early.valid and reward([early])[0].parts["trajectory"] == 1.0


def test_rubrics_are_checked_beforehand():
    reward = WeightedSum(PAPER, Judges(ExactJudge()))
    with pytest.raises(ConfigError, match="no rubric"):
        reward.check([question("OU", (1, 2, RIGHT))])
    written = [{"rubric_id": 0, "dimension": "coverage", "rubric": "It tells of the lock."}]
    with pytest.raises(ConfigError, match="language model"):
        reward.check([question("OU", (1, 2, RIGHT), rubric=written)])
    without = PAPER | {"trajectory": TrajectorySettings(0.0)}
    WeightedSum(without, Judges(ExactJudge())).check([question("OU", (1, 2, RIGHT))])


def test_rubrics_in_words_are_judged_by_a_language_model(chat_server, tmp_path):
    def answer(request, number):
        asked = json.loads(request["messages"][1]["content"])
        lock = [said["text"] for said in asked["said"]] == [RIGHT]
        return json.dumps({"verdicts": [lock for _ in asked["statements"]]})

    chat_server.answer = answer
    words = [{"rubric_id": 7, "dimension": "coverage", "rubric": f"It tells of the lock {i}."} for i in "ab"]
    asked = question("OU", (10, 11, RIGHT), rubric=[*write_rubric([RIGHT])[:2], *words])
    settings = JudgeSettings(url=chat_server.url, model="judge", cache=tmp_path / "replies.jsonl")
    told, mute = trajectory(asked, (10, RIGHT)), trajectory(asked)
    with open_rubric_judge(settings) as judge:
        reward = WeightedSum(PAPER, Judges(ExactJudge(), judge))
        reward.check([asked])
        assert [r.parts["trajectory"] for r in reward([told, mute, told])] == [1.0, 0.25, 1.0]
        reward([mute])
    assert len(chat_server.requests) == 2  # one for each trajectory that differs
    with open_rubric_judge(JudgeSettings()) as judge:
        assert judge is None


@pytest.mark.parametrize("reply", ["true", '{"verdicts": [true]}', '{"verdicts": [true, 1]}', "[]"])
def test_verdicts_that_cannot_be_read(reply):
    with pytest.raises(ValueError, match=r"JSON object|verdicts"):
        read_verdicts(reply, 2)
    assert read_verdicts('```json\n{"verdicts": [true, false]}\n```', 2) == [True, False]


def test_format_reward():
    assert format_reward((True, False, True, True)) == 0.75
    assert format_reward(()) == 1.0


def test_settings_are_checked():
    with pytest.raises(ValueError, match="must be a positive number"):
        TurnSettings(tau=0.0)
    with pytest.raises(ValueError, match="must not be negative"):
        FormatSettings(weight=-0.1)
