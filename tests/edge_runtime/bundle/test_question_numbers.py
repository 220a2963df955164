"""Numbers of questions: what is written is read back, and nothing else is taken for an answer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_runtime.bundle.question_numbers import joined, numbered, split_answers

TEXTS = st.text(st.characters(codec="utf-8"), min_size=1).filter(lambda text: bool(text.split()))


@given(st.dictionaries(st.integers(1, 99), TEXTS, min_size=1, max_size=4))
def test_what_is_joined_is_split_again(answers):
    found = split_answers(joined(answers), answers.keys())
    assert found.texts == {number: " ".join(text.split()) for number, text in answers.items()}
    assert found.unattributed == ()


def test_answers_stand_in_the_order_of_their_numbers():
    assert joined({3: "A car left.", 1: "Someone\ncame in."}) == "1: Someone came in.\n3: A car left."
    assert numbered(2, "Tell me when:\n3: now") == "2: Tell me when: 3: now"


@pytest.mark.parametrize(
    "line",
    [
        "Someone came in.",  # no number
        "3: A car left.",  # no such question
        "0: A car left.",
        "01: A car left.",
        "1:A car left.",
        "1 : A car left.",
        " 1: A car left.",
        "1: ",
        "1:  ",
        "",
        "1:  A car left.",
        "\u0661: A car left.",  # a digit, but none of ours
        "1" * 5000 + ": A car left.",
    ],
)
def test_a_line_without_a_live_number_answers_no_question(line):
    found = split_answers(f"{line}\n2: Yes.", {1, 2})
    assert found.texts == {2: "Yes."} and found.unattributed == (line,)


def test_a_question_is_answered_once_in_a_response():
    found = split_answers("1: A.\n1: B.", {1})
    assert found.texts == {1: "A."} and found.unattributed == ("1: B.",)


def test_a_number_inside_an_answer_is_text():
    assert split_answers("1: He said 2: no.", {1, 2}).texts == {1: "He said 2: no."}


@given(st.text(), st.sets(st.integers(1, 4)))
def test_any_text_is_split_without_a_loss(text, live):
    found = split_answers(text, live)
    assert set(found.texts) <= live
    assert len(found.texts) + len(found.unattributed) == text.count("\n") + 1
