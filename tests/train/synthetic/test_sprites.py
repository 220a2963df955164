"""The generated world: the same for the same seed, true to its annotations, complete in tasks and kinds."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.metric.annotations import read_annotations
from train.synthetic.sprites.__main__ import main
from train.synthetic.sprites.generate import WorldConfig, generate, make_story
from train.synthetic.sprites.questions import ask_all
from train.synthetic.sprites.rubrics import holds, write_rubric
from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.stage import VERBS
from train.synthetic.sprites.scenes.walk import NEARNESS
from train.synthetic.sprites.texts import QUESTIONS, corpus


def records(split: str, count: int) -> list[dict]:
    made = []
    for i in range(count):
        rng, story = make_story(3, i, split)
        made += ask_all(rng, story, f"c{i}", f"c{i}.mp4", training=split == "train")
    return made


def test_catalog_is_as_large_as_promised():
    assert len(catalog.ACTORS) >= 60
    assert len(VERBS) >= 12
    assert all(len(templates) >= 3 for templates in QUESTIONS.values())
    assert not set(catalog.ACTORS) & set(catalog.UNSEEN_ACTORS)


def test_same_seed_same_frames_and_other_split_other_frames():
    (_, a), (_, b), (_, c) = make_story(7, 2, "train"), make_story(7, 2, "train"), make_story(7, 2, "test")
    assert np.array_equal(a.scene.render(5.3), b.scene.render(5.3))
    assert not np.array_equal(a.scene.render(5.3), c.scene.render(5.3))


def test_every_task_occurs_and_every_event_kind():
    train = records("train", 120)
    assert set(Counter(r["task"] for r in train)) == {"EU", "OU", "AA", "TP", "TG", "GP", "RF", "EC", "AC"}
    kinds = {e.kind for i in range(120) for e in make_story(3, i, "train")[1].events}
    assert set(VERBS) <= kinds
    assert not {"EC", "AC"} & {r["task"] for r in records("test", 40)}


def test_annotations_lie_within_the_clip_and_after_the_query():
    for r in records("train", 60):
        time = r["query"]["time"]
        assert 6 <= len(r["rubric"]) <= 10
        for a in r["answers"]:
            assert time <= a["start"] <= a["end"] <= r["duration"], r
            assert a["text"]


def test_unseen_split_shows_unseen_actors_only():
    for i in range(30):
        _, story = make_story(0, i, "unseen")
        if story.family != "kitchen":
            assert {e.subject for e in story.events} <= set(catalog.UNSEEN_ACTORS)
    assert not any(name in line.split() for line in corpus() for name in ("zebra", "giraffe"))


def test_state_change_is_in_the_picture_when_the_annotation_says():
    found = 0
    for i in range(60):
        _, story = make_story(5, i, "train")
        for change in story.changes:
            actor = next(a for a in story.scene.actors if a.name == change.subject)
            assert actor.look(change.start - 0.05) != actor.look(change.start + 0.05)
            found += 1
    assert found > 20


def test_hazard_size_follows_the_true_time_to_contact():
    walks = [make_story(1, i, "train")[1] for i in range(80)]
    walk = next(s for s in walks if s.family == "walk")
    hazard = walk.events[0]
    actor = next(a for a in walk.scene.actors if a.name == hazard.subject)
    ratio = actor.size.at(hazard.start - 1.0) / actor.size.at(hazard.start - 5.0)
    assert ratio == pytest.approx((1 + NEARNESS * 5) / (1 + NEARNESS * 1), rel=0.1)
    assert abs(actor.x.at(hazard.start - 1.0) - 112) < 35  # in the way, not at the side


def test_plan_steps_complete_at_whole_seconds_in_order():
    kitchens = [s for i in range(40) if (s := make_story(2, i, "train")[1]).family == "kitchen"]
    for story in kitchens:
        done = story.detail["done"]
        assert done == sorted(done) and all(t == int(t) for t in done)
        assert [e.subject for e in story.events] == list(catalog.DISHES[story.detail["dish"]])


@pytest.mark.parametrize(
    ("said", "failing"),
    [
        (["The cat enters.", "The dog leaves."], set()),
        (["The dog leaves.", "The cat enters."], {"in_order"}),
        (["The cat enters."], {"at_least", "mentions"}),
        (["The cat enters.", "The cat enters.", "The dog leaves."], {"no_repeat", "in_order"}),
        (
            ["The cat enters.", "A cow.", "The dog leaves.", "The end. It is over."],
            {"only", "at_most", "one_sentence"},
        ),
        ([], {"at_least", "one_sentence", "mentions", "in_order", "no_repeat", "only"}),
    ],
)  # fmt: skip
def test_rubric_checks(said, failing):
    rubric = write_rubric(["The cat enters.", "The dog leaves."])
    assert {r["check"]["kind"] for r in rubric if not holds(r["check"], said)} == failing


def test_generate_writes_readable_files_and_goes_on(tmp_path):
    config = WorldConfig(seed=11, count=2, out=tmp_path, split="test", watched_only=True)
    annotations = read_annotations(generate(config))
    assert annotations and all(a.video_path.exists() for a in annotations)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "clips").iterdir()}
    generate(config)
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "clips").iterdir()}


def test_command_line_refuses_an_unwritable_folder():
    result = CliRunner().invoke(
        main, ["generate", "--seed", "1", "--count", "1", "--out", "/proc/nothing", "--workers", "1"]
    )
    assert result.exit_code == 1
    assert "cannot write to" in result.output and "Traceback" not in result.output


def test_annotation_lines_are_json(tmp_path):
    path = generate(WorldConfig(seed=12, count=1, out=tmp_path, split="train", watched_only=True))
    for line in path.read_text().splitlines():
        assert json.loads(line)["rubric"][0]["check"]["kind"]


def test_negatives_ask_for_what_the_clip_never_shows(tmp_path):
    done = CliRunner().invoke(
        main,
        [
            "negatives",
            "--split",
            "test",
            "--seed",
            "3",
            "--count",
            "40",
            "--out",
            str(tmp_path / "negatives.jsonl"),
        ],
        catch_exceptions=False,
    )
    assert done.exit_code == 0
    asked = read_annotations(tmp_path / "negatives.jsonl")
    assert {a.task for a in asked} == {"EU", "OU", "AA", "TP", "TG"}
    for question in asked:
        index = int(question.id.split("/")[0].rpartition("-")[2])
        _, story = make_story(3, index, "test")
        assert not question.answers and 0 <= question.query.time < story.scene.duration - 10
        assert question.duration == story.scene.duration
        shown = {actor.name for actor in story.scene.actors}
        if question.task == "AA":
            assert not story.anomalies
        else:
            words = question.query.text.replace(":", " ").replace(".", " ").replace("?", " ").split()
            assert not shown & set(words), question.query.text
        check = question.rubric[0]["check"]
        assert holds(check, []) and not holds(check, ["The cat enters."])
