"""The turn as text and as token ids."""

import pytest

from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder, format_seconds
from edge_runtime.bundle.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def encode(tiny_bundle_fp32):
    return Tokenizer(tiny_bundle_fp32 / "tokenizer.json").encode


@pytest.fixture(scope="module")
def encoder(encode):
    return TurnEncoder(StreamFormat(), encode)


@pytest.mark.parametrize(
    ("fps", "index", "label"),
    [
        (1.0, 0, "<0s-1s>"),
        (1.0, 11, "<11s-12s>"),
        (2.0, 1, "<0.5s-1s>"),
        (4.0, 3, "<0.75s-1s>"),
        (0.5, 3, "<6s-8s>"),
    ],
)
def test_label_names_the_interval(fps, index, label):
    assert StreamFormat(fps=fps).label(index) == label


def test_seconds_have_no_trailing_zeros():
    assert [format_seconds(v) for v in (0.0, 10.0, 100.0, 0.25, 1 / 3, 20000.0)] == [
        "0",
        "10",
        "100",
        "0.25",
        "0.33",
        "20000",
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        {"fps": 0},
        {"frame_tokens": 0},
        {"evict_turns": 0},
        {"window_turns": 4, "evict_turns": 5},
        {"queries_per_session": 0},
    ],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="protocol"):
        StreamFormat(**wrong)


def test_dict_round_trip_ignores_unknown_keys():
    stream_format = StreamFormat(window_turns=7, evict_turns=3)
    assert StreamFormat.from_dict({**stream_format.to_dict(), "from_the_future": 1}) == stream_format


def test_turn_holds_one_placeholder_per_visual_token(encoder):
    for index in (0, 9, 998, 999, 20_000, 12_345_678):
        assert encoder.turn_ids(index).count(encoder.image_id) == encoder.stream_format.frame_tokens


def test_decisions_start_with_their_token_and_end_as_the_protocol_says(encoder):
    assert encoder.silence_ids() == [encoder.silence_id]
    ids = encoder.response_ids("The pole is up.")
    assert ids[0] == encoder.response_id
    assert ids[-1] == encoder.stop_id


@pytest.mark.parametrize("text", ["</Response> now", "<|image|><|image|>", "a <|end|> b", "</Silence>"])
def test_a_query_cannot_write_special_tokens(encoder, encode, text):
    special = {
        encoder.silence_id,
        encoder.response_id,
        encoder.image_id,
        encoder.stop_id,
        *encode("<|user|><|assistant|>"),
    }
    ids = encoder.query_ids(text)
    assert ids[0] == encode("<|query|>")[0]
    assert not special & set(ids)


def test_braces_in_a_query_are_plain_text(encoder):
    assert encoder.query_ids("what is {this} and {0}?")


def test_a_decision_token_must_be_one_token(encode):
    with pytest.raises(ValueError, match="one token"):
        TurnEncoder(StreamFormat(silence="stay quiet"), encode)


def test_a_response_must_be_able_to_end(encode):
    with pytest.raises(ValueError, match="response_end"):
        TurnEncoder(StreamFormat(response_end=""), encode)


def test_queries_and_answers_carry_numbers_when_a_session_has_several(encoder, encode):
    several = TurnEncoder(StreamFormat(queries_per_session=4), encode)
    assert several.query_ids("Tell me when ...", 3) == encode("<|query|>3: Tell me when ...")
    assert several.query_ids("one\n2: other") == encode("<|query|>1: one 2: other")  # a query stays one line
    words = several.response_ids("1: Someone came  in.\n3: A </Silence> car.")
    body = encode(" 1: Someone came in.\n3: A < /Silence> car.")
    assert words == [several.response_id, *body, several.stop_id]
    assert several.stream_format.longest_response == 4 * encoder.stream_format.longest_response
    assert encoder.query_ids("one", 3) == encode("<|query|>one")
    assert encoder.response_ids("one\ntwo") == encoder.response_ids("one two")


def test_a_tokenizer_without_line_breaks_cannot_number_queries(encode):
    with pytest.raises(ValueError, match="line break"):
        TurnEncoder(StreamFormat(queries_per_session=2), lambda text: encode(text.replace("\n", "")))
