"""Conversion of a file: what is read, and which mistakes are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.external.formats.run import convert, read_durations
from benchmarks.metric.annotations import (
    FormatError,
    read_annotations,
)
from edge_runtime.errors import ConfigError
from tests.benchmarks.external.formats.samples import (
    SAMPLES,
    SSR,
    STREAMING,
    STREAMO,
    to_ours,
)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("streamo", {"question": [{"content": "x", "time": "soon"}]}, "'question[0].time': expected seconds"),
        ("streamo", {"video_path": None}, "'video_path': expected text, got null"),
        ("streamo", {"response": {}}, "'response': expected a list of objects, got an object"),
        (
            "streamo",
            {"response": [{"content": "x", "st_time": 5, "end_time": 4}]},
            "'response[0].end_time': expected a time not before st_time (5), got 4",
        ),
        ("proactivevideoqa", {"duration": 0}, "'duration': expected a positive number of seconds, got 0"),
        (
            "proactivevideoqa",
            {"conversation": [{"role": "assistant"}]},
            "'conversation': expected a list that",
        ),
        ("ovo-bench", {"id": ""}, "'id': expected a whole number or text"),
        ("ovo-bench", {**SSR, "end_time": [17]}, "'end_time': expected a list of 2 times, got one of 1"),
        (
            "streamingbench",
            {"questions": [{**STREAMING["questions"][0], "time_stamp": "1 h"}]},
            "'questions[0].time_stamp': expected a time stamp such as",
        ),
        ("streamingbench", {"streampro": [{"at": ["id"]}]}, "'streampro[0].is': expected a value"),
    ],
)
def test_malformed_records_are_named(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    good = SAMPLES[name][0]
    with pytest.raises(FormatError) as caught:
        to_ours(tmp_path, name, [good, {**good, **changes}])
    assert str(caught.value).startswith(f"{tmp_path / 'in.json'}, record 2, key ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours.jsonl").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[\n1,", "expected JSON, got an error at line 2, column 3"),
        ("[1]", "record 1: expected an object, got a number"),
        ('{"a": 1}\n{"a"', "line 2: expected one JSON object, got an error at column"),
    ],
)
def test_text_that_is_no_json(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        convert("streamo", "streampro", path, tmp_path / "out.jsonl")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_json_lines_and_single_objects_are_read(tmp_path: Path) -> None:
    path, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    for text in (
        json.dumps(STREAMO, indent=2),
        json.dumps(STREAMO),
        f"{json.dumps(STREAMO)}\n{json.dumps(STREAMO)}\n",
    ):
        path.write_text(text)
        assert convert("streamo", "streampro", path, out).read == (2 if text.endswith("\n") else 1)
    assert [a.id.rpartition("@")[2] for a in read_annotations(out)] == ["3", "3#2"]


def test_kept_parts_that_make_no_annotation_are_refused(tmp_path: Path) -> None:
    record = {**STREAMING, "streampro": [{"at": ["task"], "was": "OU", "is": "XX"}]}
    with pytest.raises(FormatError, match=r"in.json as converted, line 1, key 'task': expected one of"):
        to_ours(tmp_path, "streamingbench", [record])


@pytest.mark.parametrize(("source", "target"), [("streamo", "ovo-bench"), ("streampro", "streampro")])
def test_one_side_must_be_ours(source: str, target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of the two must be streampro"):
        convert(source, target, tmp_path / "a", tmp_path / "b")


def test_input_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("")
    with pytest.raises(ConfigError, match="is the file to be read"):
        convert("streamo", "streampro", path, tmp_path / "." / "a.jsonl")


def test_durations(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    path.write_text('{"v.mp4": 12.5}')
    assert read_durations(path) == {"v.mp4": 12.5}
    path.write_text('{"v.mp4": "long"}')
    with pytest.raises(FormatError, match=r"key 'v\.mp4': expected a number of seconds"):
        read_durations(path)
