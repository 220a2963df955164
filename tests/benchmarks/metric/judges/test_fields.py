"""The judge of the generated world knows every sentence the world says, and counts facts."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import Annotation, Answer, Query, Response
from benchmarks.metric.judges import FieldsJudge, normalise, open_judge
from benchmarks.metric.judges.fields import ACTIONS, read_slots
from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.stage import VERBS
from train.synthetic.sprites.texts import add_text, ready_text

QUESTION = Annotation("q", "v.mp4", 60.0, "EU", Query(0.0, "?"), ())


def judge(answer: str, said: str) -> float:
    return FieldsJudge().accuracy(QUESTION, Answer(1, 2, answer), Response(2, said))


@pytest.mark.parametrize(
    ("answer", "said", "share"),
    [
        ("The cat jumps.", "the cat JUMPS", 1),
        ("The cat jumps.", "The dog jumps.", 1 / 2),
        ("The cat jumps.", "The cat falls over.", 1 / 2),
        ("The cat moves left.", "The cat moves right.", 1 / 2),
        ("The cat jumps.", "The dog spins.", 0),
        ("The cat jumps.", "The cat is now sad.", 1 / 3),
        ("The lock is now open.", "The lock is now closed.", 1 / 2),
        ("The hand is now a thumbs up.", "The hand is now a fist.", 1 / 2),
        ("Alert: fire.", "Alert: bomb.", 0),
        ("Alert: fire.", "alert fire!", 1),
        ("Alert: fire.", "Watch out: fire ahead.", 0),
        ("Watch out: cow ahead.", "Watch out: bus ahead.", 0),
        ("Add the salt.", "The salt goes into the pot.", 0),
        ("The soup is ready.", "The stew is ready.", 0),
        ("The cat jumps.", "The cat jumps. The dog spins.", 0),
        ("The dog spins.", "The cat jumps. The dog spins.", 0),
        ("The lock is now open.", "The lock is now open. The lock is now closed.", 0),
        ("The cat jumps.", "The cat dances.", 0),
        ("The cat jumps.", "", 0),
        ("A person cuts bread.", "a person cuts bread", 1),
        ("A person cuts bread.", "A person cuts cheese.", 0),
        ("", "", 0),
    ],
)
def test_share_of_facts(answer: str, said: str, share: float) -> None:
    assert judge(answer, said) == judge(said, answer) == pytest.approx(share)


def test_every_sentence_of_the_world_is_read() -> None:
    actors = [*catalog.ACTORS, *catalog.UNSEEN_ACTORS]
    assert set(VERBS.values()) | {"passes by"} == set(ACTIONS)
    for name, verb in product(actors, ACTIONS):
        assert read_slots(normalise(f"The {name} {verb}.")) == {"subject": name, "action": verb}
    for name, states in catalog.STATEFUL.items():
        for state in states:
            assert read_slots(normalise(f"The {name} is now {state}.")) == {"subject": name, "state": state}
    for name in catalog.ANOMALIES:
        assert read_slots(normalise(f"Alert: {name}.")) == {"anomaly": name}
    for name in catalog.HAZARDS:
        assert read_slots(normalise(f"Watch out: {name} ahead.")) == {"hazard": name}
    for name in catalog.FOOD:
        assert read_slots(normalise(add_text(name))) == {"instruction": name}
        assert read_slots(normalise(f"The {name} goes into the pot.")) == {"ingredient": name}
    for name in catalog.DISHES:
        assert read_slots(normalise(ready_text(name))) == {"dish": name}


@settings(deadline=None)
@given(st.text(max_size=60), st.sampled_from(["The cat jumps.", "The lock is now open.", "Alert: fire."]))
def test_any_text_gets_a_share(said: str, answer: str) -> None:
    assert 0 <= judge(answer, said) <= 1
    assert judge(said, said) == bool(normalise(said))


def test_long_text_takes_no_time() -> None:
    assert judge("The cat jumps.", "the " + "cat " * 50_000 + "jumps") == 0


def test_by_name() -> None:
    assert open_judge("fields").name == "fields"
