"""Vocabulary: numbers, labels, special tokens, round trips."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from train.models.tokenizer import SPECIAL_TOKENS, train_tokenizer

TEXTS = [
    "The red cat enters.",
    "It's the dog's house; the dog leaves at 12s-20s.",
    "Watch out: tree ahead.",
] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(TEXTS, 2048)


def ids(tokenizer, text):
    return tokenizer.encode(text, add_special_tokens=False).ids


def test_every_integer_below_thousand_is_one_token(tokenizer):
    assert len({ids(tokenizer, str(n))[0] for n in range(1000)}) == 1000
    assert all(len(ids(tokenizer, str(n))) == 1 for n in range(1000))


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("<11s-12s>", ["<", "11", "s-", "12", "s>"]),
        ("<19999s-20000s>", ["<", "199", "99", "s-", "200", "0", "0", "s>"]),
        ("12s-19s", ["12", "s-", "19", "s"]),
        ("007", ["0", "0", "7"]),
    ],
)
def test_numbers_and_labels_are_cut_alike_everywhere(tokenizer, text, pieces):
    assert tokenizer.encode(text, add_special_tokens=False).tokens == pieces


def test_special_tokens_come_first_and_are_single(tokenizer):
    assert [ids(tokenizer, token) for token in SPECIAL_TOKENS] == [[i] for i in range(len(SPECIAL_TOKENS))]


def test_a_silent_turn_costs_eight_tokens_and_those_of_its_frame(tokenizer):
    encoder = TurnEncoder(StreamFormat(), lambda text: ids(tokenizer, text))
    assert len(encoder.turn_ids(11) + encoder.silence_ids()) == 8 + encoder.stream_format.frame_tokens


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=40))
def test_any_text_comes_back(tokenizer, text):
    assert tokenizer.decode(ids(tokenizer, text), skip_special_tokens=False) == text


def test_same_texts_give_the_same_vocabulary(tokenizer):
    assert train_tokenizer(TEXTS, 2048).to_str() == tokenizer.to_str()


def test_frequent_words_become_tokens_within_the_limit(tokenizer):
    assert len(ids(tokenizer, " cat enters")) == 2
    assert train_tokenizer(TEXTS, 1280).get_vocab_size() == 1280


def test_too_small_a_vocabulary_is_refused():
    with pytest.raises(ValueError, match="at least"):
        train_tokenizer(TEXTS, 1000)
