"""Checking annotation files: each kind of problem on its line, and the numbers of a small file by hand."""

import json
import re

import av
import numpy as np
import pytest
from click.testing import CliRunner

from train.commands.check import check
from train.data.check import Limits, check_files, probe


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Ten seconds of video, two frames a second."""
    path = tmp_path_factory.mktemp("clips") / "ten.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=2)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        for i in range(20):
            picture = np.full((64, 64, 3), 10 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def question(clip, **changes):
    answers = [
        {"start": 1.0, "end": 3.0, "text": "The cat enters."},
        {"start": 4.0, "end": 6.5, "text": "It sits down."},
    ]
    query = {"time": 0.0, "text": "What happens?"}
    record = {
        "id": "q",
        "video": str(clip),
        "duration": 10.0,
        "task": "EU",
        "query": query,
        "answers": answers,
    }
    return {**record, **changes}


def write(tmp_path, *records, name="a.jsonl"):
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path / name


def answer(start, end, text="The cat enters."):
    return {"start": start, "end": end, "text": text}


def found(path, **limits):
    return [str(problem) for problem in check_files([path], Limits(**limits)).problems]


def test_a_good_file_has_no_problems_and_its_numbers_are_right(tmp_path, clip):
    path = write(
        tmp_path,
        question(clip),
        question(clip, id="late", query={"time": 5.0, "text": "What?"}, answers=[answer(6, 7)]),
        question(clip, id="silent", task="OU", answers=[]),
        question(clip, id="lost", task="OU", answers=[answer(10, 10)]),
    )
    result = CliRunner().invoke(check, [str(path), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    numbers = report["statistics"]
    assert report["problems"] == []
    assert numbers["by_task"] == {"EU": 2, "OU": 2}
    assert (numbers["questions"], numbers["clips"], numbers["answers"]) == (4, 1, 4)
    assert numbers["turns"] == {"least": 10, "median": 10, "most": 10}
    # in force from the turns that end at 1, 5, 1 and 1: 10 + 6 + 10 + 10 decisions, of which 3 speak
    assert numbers["decisions"] == 36 and numbers["silence"] == pytest.approx(33 / 36)
    assert (numbers["lost"], numbers["unanswered"]) == (1, 1)
    assert numbers["answers_per_question"] == {"least": 0, "median": 1, "most": 2}
    assert numbers["words"] == {"least": 3, "median": 3, "most": 3} and numbers["tokens"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "XX"}, "key 'task': expected one of EU"),
        ({"video": "gone.mp4"}, r"gone.mp4 is not there"),
        ({"duration": 14.0}, r"duration is 14 s, but .* lasts 10.00 s"),
        ({"query": {"time": 10.0, "text": "What?"}, "answers": []}, "comes when the clip has ended"),
        ({"query": {"time": 0.0, "text": " "}}, "key 'query.text': expected text that is not empty"),
        ({"answers": [answer(8, 12)]}, r"answers\[0\] \(8-12 s\): ends after the clip"),
        ({"answers": [answer(5, 4)]}, "a time not before start"),
        ({"answers": [answer(5, 6, "")]}, r"answers\[0\]\.text"),
        (
            {"answers": [answer(1, 3), answer(2, 4, "It sits.")]},
            r"answers\[0\] \(1-3 s\) and answers\[1\].*overlap",
        ),
        ({"answers": [answer(1, 3), answer(1, 3)]}, r"answers\[0\] and answers\[1\] are the same"),
        ({"query": {"time": 4.0, "text": "What?"}}, r"answers\[0\].*lies before the query at 4 s"),
        (
            {"task": "AA", "query": {"time": 2.0, "text": "Warn me."}, "answers": [answer(1, 9)]},
            "lies before the query",
        ),
        ({"task": "TG", "answers": [answer(1, 3, "at one")]}, "'at one' names no interval such as 1s-3s"),
        ({"task": "TG", "answers": [answer(1, 3, "5s-9s")]}, "names another time"),
        ({"rubric": [{"dimension": "style", "rubric": "Be brief."}]}, r"rubric\[0\]: dimension is 'style'"),
        ({"rubric": [{"dimension": "coverage"}]}, r"rubric\[0\]: expected a statement"),
    ],
)
def test_each_problem_is_found_on_its_line(tmp_path, clip, changes, words):
    path = write(tmp_path, question(clip, id="good"), question(clip, **changes))
    problems = found(path)
    assert len(problems) == 1
    assert re.search(rf"a\.jsonl, line 2.*{words}", problems[0])


def test_all_problems_of_all_files_are_told_in_order(tmp_path, clip):
    (tmp_path / "noise.mp4").write_bytes(b"no video at all")
    first = write(
        tmp_path,
        "{broken",
        question(clip),
        question(clip),
        question(clip, id="b", video="noise.mp4", answers=[answer(8, 12), answer(1, 2, "")]),
        question(clip, id="c", video="noise.mp4", answers=[answer(8, 12)]),
    )
    second = write(tmp_path, name="b.jsonl")
    second.write_text("")
    result = CliRunner().invoke(check, [str(first), str(second), str(tmp_path / "gone.jsonl")])
    lines = result.stdout.splitlines()
    assert result.exit_code == 1 and "7 problems" in lines[-1]
    starts = [line.rpartition("/")[2] for line in lines[:7]]
    assert starts[0].startswith("a.jsonl, line 1: expected one JSON object")
    assert starts[1].startswith("a.jsonl, line 3: id 'q' is that of line 2 too")
    assert starts[2].startswith("a.jsonl, line 4") and "answers[1].text" in starts[2]
    assert {"noise.mp4: can't be read", "ends after the clip"} == {
        words for words in ("noise.mp4: can't be read", "ends after the clip") if words in lines[3] + lines[4]
    }
    assert starts[5] == "b.jsonl: holds no question"
    assert starts[6].startswith("gone.jsonl: can't be read")


def test_an_event_of_whole_seconds_grounds_one_in_fractions(tmp_path, clip):
    assert found(write(tmp_path, question(clip, task="TG", answers=[answer(1.6, 2.4, "1s-3s")]))) == []


def test_texts_are_measured_with_the_tokenizer(tmp_path, clip):
    path = write(tmp_path, question(clip, answers=[answer(1, 2, "one two three"), answer(3, 4, "one")]))
    assert found(path, count_tokens=lambda text: len(text.split()), max_response_tokens=2) == [
        f"{path}, line 1: answers[0] (1-2 s): the text has 3 tokens, a response has 2 at most"
    ]


def test_a_file_cut_short_is_shorter_than_its_header_says(tmp_path, clip):
    whole = clip.read_bytes()
    with av.open(str(tmp_path / "a.ts"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        noise = np.random.default_rng(0).integers(0, 255, (100, 64, 64, 3), np.uint8)
        for picture in noise:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = (tmp_path / "a.ts").read_bytes()
    (tmp_path / "a.ts").write_bytes(data[: len(data) // 2])
    assert probe(clip).duration == pytest.approx(10.0)
    assert 3 < probe(tmp_path / "a.ts").duration < 7
    (tmp_path / "a.mp4").write_bytes(whole[: len(whole) // 2])  # its index is gone
    assert "can't be read" in probe(tmp_path / "a.mp4").reason


def test_nothing_to_check_is_an_error():
    result = CliRunner().invoke(check, [])
    assert result.exit_code != 0 and "nothing to check" in str(result.exception)
