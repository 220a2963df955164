"""What stream formats of public checkpoints can say: sets of words, questions in turns, labels, delegates."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edge_runtime.bundle.labels import Seconds
from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from edge_runtime.engine.decision_rule import DecisionRule
from edge_runtime.engine.response_text import split_response
from edge_runtime.engine.turn_frames import TurnFrames
from edge_runtime.kv_cache.window import KVWindow

WORDS = ["<|end|>", "<|image|>", "</Silence>", "</Standby>", "</Response>", "NO", " REPLY", "Yes", "\n"]


def encode(text: str) -> list[int]:
    """Longest word first, else letters."""
    ids: list[int] = []
    while text:
        word = next((word for word in sorted(WORDS, key=len, reverse=True) if text.startswith(word)), text[0])
        ids.append(WORDS.index(word) if word in WORDS else 100 + ord(word) % 100)
        text = text[len(word) :]
    return ids


def rule(logits, **changes):
    encoder = TurnEncoder(replace(StreamFormat(), **changes), encode)
    return DecisionRule(encoder, np.zeros(200, np.float32)), np.float32(logits + [-9.0] * (200 - len(logits)))


def test_labels_write_seconds_as_asked():
    assert "{0} {0:.1f} {0:clock}".format(Seconds(65.0)) == "65 65.0 01:05"
    assert f"{Seconds(4.5)}" == "4.5"


def test_two_tokens_score_as_they_always_did():
    decide, logits = rule([0, 0, 1.25, 0, 0.5])
    assert decide.score(logits) == 1.0 / (1.0 + np.exp(float(np.float32(1.25)) - float(np.float32(0.5))))


def test_a_set_of_silences_adds_up_and_its_strongest_is_kept():
    sets = {"silence": ("</Silence>", "</Standby>"), "response": ("</Response>",)}
    decide, logits = rule([0, 0, 1.0, 2.0, 2.5], **sets)
    p = np.exp([1.0, 2.0, 2.5])
    assert decide.score(logits) == pytest.approx(p[2] / p.sum())  # below one half
    assert decide.silence(logits).text == "</Standby>"
    greedy, logits = rule([0, 0, 1.0, 2.0, 2.5], greedy=True, **sets)
    assert greedy.score(logits) > 0.5


def test_anything_else_is_a_response_and_an_empty_answer_is_silence():
    decide, logits = rule([3.0, 0, 0, 0, 0, 1.0, 0, 2.0], silence=("NO REPLY",), response=(), greedy=True)
    assert decide.silence(logits).text == "<|end|>" and decide.score(logits) < 0.5
    logits[0] = -9.0
    assert decide.score(logits) > 0.5 and decide.response(logits) is None
    assert decide.opening(logits).argmax() == WORDS.index("Yes")
    logits[WORDS.index("NO")] = 4.0
    assert decide.score(logits) < 0.5 and decide.silence(logits).ids == (5, 6)
    assert decide.opening(logits).argmax() == WORDS.index("Yes")


def test_forced_tokens_stand_before_the_decision_and_not_in_it():
    spelled = replace(StreamFormat(), forced="<", silence=("<no>",), response=("<yes>",))
    encoder = TurnEncoder(spelled, encode)
    assert encoder.turn_ids(3)[-1:] == encode("<")
    assert encoder.silence_ids() == encode("no>") and encoder.responses[0].ids == tuple(encode("yes>"))
    with pytest.raises(ValueError, match="must be one token"):
        TurnEncoder(replace(spelled, forced=""), encode)
    with pytest.raises(ValueError, match="begin with the same token"):
        TurnEncoder(replace(spelled, silence=("<ya>",)), encode)


def test_a_question_stands_in_its_turn():
    inside = replace(
        StreamFormat(frame_tokens=2),
        turn_head="H",
        turn_template="{image}{query}>",
        query_template="{text}\n",
    )
    encoder = TurnEncoder(inside, encode)
    turn = encoder.turn(0, asks=True)
    ids = [*turn.head, *turn.before, *encoder.query_ids("Yes"), *turn.after]
    assert ids == encode("H<|image|><|image|>Yes\n>")
    assert encoder.turn_ids(0) == encode("H<|image|><|image|>>")
    assert encoder.prefix_ids()[-1:] == encode("H")


def test_the_first_turn_that_stays_gives_its_head_up():
    window = KVWindow(1000, 3, 2)
    window.add("prefix", 5)
    window.add("before", 2, "0")
    window.add("query", 4, "q1")
    window.add("turn", 6, "0")
    for name in ("1", "2"):
        window.add("head", 1, name)
        window.add("turn", 8, name)
    plan = window.plan_turn(9)
    assert plan is not None
    assert [(segment.kind, segment.name) for segment in plan.kept] == [
        ("prefix", ""),
        ("query", "q1"),
        ("turn", "2"),
    ]
    assert plan.slots == 17 and [(m.source, m.target, m.slots) for m in plan.moves] == [(7, 5, 4), (27, 9, 8)]


def test_a_text_is_cut_and_a_task_is_taken_out():
    stream_format = replace(StreamFormat(), strip=",:", first_line=True, delegate=("</delegation>", "<do>"))
    assert split_response(stream_format, ": A cat.\nMore") == ("A cat.", None)
    assert split_response(stream_format, "A cat. </delegation> which breed?") == ("A cat.", "which breed?")
    assert split_response(stream_format, "<do> look") == ("", "look")
    assert split_response(StreamFormat(), "A: b\nc") == ("A: b\nc", None)


def test_frames_of_a_turn_are_gathered():
    frames, one = TurnFrames(2), np.ones((3, 4), np.float32)
    assert frames.gather(one, 0) is None
    both = frames.gather(2 * one, 1)
    assert both is not None and both.shape == (6, 4) and both[:, 0].tolist() == [1, 1, 1, 2, 2, 2]
    alone = frames.gather(3 * one, 3)  # frame 2 never came
    assert alone is not None and alone[:, 0].tolist() == [3] * 6


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"silence": ()}, "silence must not be empty"),
        ({"frames_per_turn": 2}, "2 times"),
        ({"turn_head": "H"}, "turn_head is for such templates alone"),
        ({"strip": ",", "queries_per_session": 2}, "cannot be combined"),
        ({"turn_template": "{image"}, "turn_template"),
    ],
)
def test_a_format_that_contradicts_itself_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        replace(StreamFormat(), **changes)


def test_only_what_differs_is_written():
    assert "delegate" not in StreamFormat().to_dict() and StreamFormat().is_basic
    changed = replace(StreamFormat(), delegate=["<do>"], silence=["NO"])
    assert not changed.is_basic and StreamFormat.from_dict(changed.to_dict()) == changed
