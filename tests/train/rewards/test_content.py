"""What typical trajectories earn under the paper's reward and under the one that checks content."""

from pathlib import Path

import pytest
import torch

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import KeywordsJudge
from train.grpo.recipe import load_grpo_recipe
from train.rewards.base import Judges
from train.rewards.restraint import RestraintSettings
from train.rewards.trajectory import TrajectorySettings
from train.rewards.weighted_sum import PAPER, WeightedSum
from train.rollout.trajectory import Beside, Prompt, Trajectory
from train.synthetic.sprites.rubrics import write_rubric

RECIPE = Path(__file__).parents[3] / "train" / "recipes" / "scout-grpo.toml"
ANSWERS = (
    (10.0, "A car drives in.", [["car", "vehicle"], ["drives", "comes"]]),
    (20.0, "A person gets out.", [["person", "man"], ["out"]]),
    (30.0, "The car has left.", [["car", "vehicle"], ["left", "gone"]]),
)
PERFECT = [(time, text) for time, text, _ in ANSWERS]
WRONG = "A dog sits down."


def annotation(answers=ANSWERS, task="OU"):
    made = tuple(Answer(t, t + 1, text, {"keywords": keywords}) for t, text, keywords in answers)
    rubric = tuple(write_rubric([text for _, text, _ in answers])) if answers else ()
    return Annotation("q", "q.npy", 60.0, task, Query(0.0, "?"), made, rubric)


def trajectory(asked, said, prompt=None, numbers=()):
    prompt = prompt or Prompt(asked, torch.zeros(1), (0,), 0, 0, 1.0)
    nothing = torch.zeros(0, dtype=torch.long)
    responses = tuple(Response(time, text) for time, text in said)
    return Trajectory(prompt, nothing, nothing, nothing, torch.zeros(0), responses, (True,), numbers)


CHATTY = sorted([*PERFECT, *((float(t), WRONG) for t in (5, 15, 25, 35))])
#                                   said                          paper  content
TABLE = {
    "perfect": (PERFECT, 1.45, 1.0),
    "other words": ([(10, "A vehicle comes."), (20, "A man: out."), (30, "The vehicle is gone.")], 1.25, 1.0),
    "4 s late": ([(time + 4, text) for time, text in PERFECT], 1.225, 0.6),
    "one answer alone": (PERFECT[:1], 0.85, 0.63),
    "one false alarm": (sorted([*PERFECT, (25.0, WRONG)]), 1.271, 0.794),
    "chatty": (CHATTY, 0.99, 0.62),
    "everything twice": (sorted([*PERFECT, *PERFECT]), 1.0, 0.661),
    "right times, wrong texts": ([(time, WRONG) for time, _ in PERFECT], 0.75, 0.0875),
    "silence": ([], 0.15, 0.2),
}


def rewards():
    judges = Judges(KeywordsJudge())
    return WeightedSum(PAPER, judges), WeightedSum(load_grpo_recipe(RECIPE).rewards, judges)


@pytest.mark.parametrize("name", TABLE)
def test_what_trajectories_earn(name):
    said, paper, content = TABLE[name]
    earned = [reward([trajectory(annotation(), said)])[0].total for reward in rewards()]
    assert earned == pytest.approx([paper, content], abs=0.001)


def test_only_the_content_reward_ranks_wrong_texts_below_silence():
    asked = annotation()
    wrong, mute = trajectory(asked, [(t, WRONG) for t, _ in PERFECT]), trajectory(asked, [])
    for reward, expected in zip(rewards(), (False, True), strict=True):
        scores = reward([wrong, mute])
        assert (scores[0].total < scores[1].total) is expected


@pytest.mark.parametrize("more", [(5.0, WRONG), (25.0, WRONG), (31.0, PERFECT[2][1])])
def test_a_false_alarm_always_costs(more):
    content = rewards()[1]
    for kept in range(4):
        said = PERFECT[:kept]
        without, alarm = content(
            [trajectory(annotation(), said), trajectory(annotation(), sorted([*said, more]))]
        )
        if not (kept < 3 and more[1] == PERFECT[2][1]):  # there it is an answer
            assert alarm.total < without.total


def test_without_answers_silence_earns_the_maximum_and_each_response_costs():
    quiet = annotation(answers=())
    said = [[(5.0 + i, WRONG) for i in range(n)] for n in range(4)]
    earned = [score.total for score in rewards()[1]([trajectory(quiet, some) for some in said])]
    assert earned[0] == pytest.approx(1.0)
    assert earned == sorted(set(earned), reverse=True)
    assert earned[1] < 0.2


def test_each_question_of_a_session_earns_its_own():
    asked, quiet = annotation(), annotation(answers=())
    prompt = Prompt(asked, torch.zeros(1), (0,), 0, 0, 1.0, (Beside(quiet, 0),))
    content = rewards()[1]
    right, swapped = content(
        [trajectory(asked, PERFECT, prompt, (1, 1, 1)), trajectory(asked, PERFECT, prompt, (2, 2, 2))]
    )
    assert right.total == pytest.approx(1.0)
    assert swapped.total < 0.2


def test_times_must_be_in_order_and_seconds_positive():
    swapped = [(10.0, PERFECT[1][1]), (20.0, PERFECT[0][1])]
    first_two = annotation(ANSWERS[:2])
    reward = TrajectorySettings(rubric="content", tau=12.0).build(Judges(KeywordsJudge()))
    assert reward.score(trajectory(first_two, PERFECT[:2])) == 1.0
    assert reward.score(trajectory(first_two, swapped)) == 0.75
    for kind in (TrajectorySettings, RestraintSettings):
        with pytest.raises(ValueError, match="positive number of seconds"):
            kind(tau=0.0)
