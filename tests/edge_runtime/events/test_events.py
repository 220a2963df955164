"""Event records: shape, ids, encoding."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from edge_runtime.events.numbering import UlidMaker, file_identity
from edge_runtime.events.records import EventMaker, Response, encode


def response(maker: EventMaker, question: str) -> dict:
    id = maker.ids.next("response", 19.0, ("q1", question))
    latency = {"decision": 41.23, "first_token": 55.0, "total": 210.41}
    return maker.response(Response(id, "q1", question, 19.0, (18.0, 19.0), "A cat.", 0.93217, latency))


def some_events(maker: EventMaker) -> list[dict]:
    return [
        maker.state("live", "decoding", 0.0),
        maker.query("asked", "q1", "What happens?", 0.0),
        response(maker, "What happens?"),
        response(maker, "What happens?"),
        maker.stats(60.0, {"timesteps": 60}, {"dropped": 3}),
    ]


def test_a_live_response_has_the_shape_of_the_format():
    maker = EventMaker("camera0", now=lambda: 1795359845.123)
    event = some_events(maker)[2]
    assert re.fullmatch("[0-9A-HJKMNP-TV-Z]{26}", event["id"])
    assert event | {"id": None} == {
        "type": "response",
        "id": None,
        "stream": "camera0",
        "query": "q1",
        "question": "What happens?",
        "time": 19.0,
        "interval": [18.0, 19.0],
        "wall_time": "2026-11-22T15:04:05.123Z",
        "text": "A cat.",
        "score": 0.9322,
        "latency_ms": {"decision": 41.2, "first_token": 55.0, "total": 210.4},
    }


def test_a_file_gives_the_same_bytes_twice_and_no_clock():
    runs = [[encode(event) for event in some_events(EventMaker("a.mp4", "identity"))] for _ in range(2)]
    assert runs[0] == runs[1]
    assert not any(word in line for line in runs[0] for word in ("wall_time", "latency", "dropped"))


def test_ids_of_a_file_are_unique_and_differ_with_content_and_question():
    first = some_events(EventMaker("a.mp4", "identity"))
    assert len({event["id"] for event in first}) == len(first)
    other = some_events(EventMaker("a.mp4", "another identity"))
    assert not {event["id"] for event in first} & {event["id"] for event in other}
    asked = response(EventMaker("a.mp4", "identity"), "Another?")
    assert asked["id"] != first[2]["id"]


def test_live_ids_rise_even_when_the_clock_goes_back():
    clock = iter([1000.0, 1000.0, 990.0, 1001.0])
    maker = UlidMaker(lambda: next(clock))
    ids = [maker.next() for _ in range(4)]
    assert ids == sorted(set(ids))


def test_live_ids_are_unique_across_threads():
    maker = UlidMaker()
    with ThreadPoolExecutor(4) as pool:
        ids = list(pool.map(lambda _: maker.next(), range(2000)))
    assert len(set(ids)) == 2000


@pytest.mark.parametrize(
    "text",
    ["plain", "naïve 猫", "line\nbreak", "\x1b[31mred", "\x9b31m", "\u2028", "bad \udcff byte", '"quoted"'],
)
def test_encoding_is_one_safe_line_that_reads_back(text):
    line = encode({"text": text})
    line.encode()  # valid UTF-8
    assert line.splitlines() == [line]
    assert not re.search("[\x00-\x1f\x7f-\x9f]", line)
    assert json.loads(line)["text"] == text


def test_numbers_that_json_cannot_hold_are_refused():
    with pytest.raises(ValueError):
        encode({"score": float("nan")})


def test_file_identity_follows_the_content(tmp_path):
    a, b, c = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    a.write_bytes(b"x" * 3_000_000)
    b.write_bytes(b"x" * 3_000_000)
    c.write_bytes(b"x" * 2_999_999 + b"y")
    assert file_identity(a) == file_identity(b)
    assert file_identity(a) != file_identity(c)
    assert file_identity(a, "model 1") != file_identity(a, "model 2")
    with pytest.raises(OSError):
        file_identity(tmp_path / "none")
