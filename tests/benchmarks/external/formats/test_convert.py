"""Converters: hand-written records in the real formats, there and back, and what is said about losses."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.external.formats.changes import same
from benchmarks.external.formats.run import FORMATS, Options, Outcome, convert, read_durations
from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    FormatError,
    Query,
    read_annotations,
    write_annotations,
)
from benchmarks.metric.tasks import TASKS
from edge_runtime.errors import ConfigError

STREAMO = {
    "video_name": "ytb_ls8tmkfD7S0.mp4",
    "video_path": "LLaVA_Video/videos/ytb_ls8tmkfD7S0.mp4",
    "task_type": "QA",
    "source": "LLaVA_Video",
    "question": [{"content": "What is the interviewer holding?", "time": "3"}],
    "response": [
        {"content": "A microphone with a logo.", "st_time": 5.0, "end_time": 6.0, "time": ""},
        {"content": "Now a card.", "time": "0:10"},
    ],
}
PROACTIVE = {
    "video": "house_frames=house_s05e24_seg02_clip_25.mp4",
    "question_id": "house_frames=house_s05e24_seg02_clip_25.mp4%Q1",
    "audio": "house/house_audios/clip_25.mp3",
    "conversation": [
        {"role": "user", "content": "Where does he stand?", "time": 0},
        {"role": "user", "content": "Subtitle: Hello.", "time": 0.352},
    ],
    "answer": [
        {
            "role": "assistant",
            "content": "At the door.",
            "type": "substep",
            "related_timespan": [343.61, 359.3],
            "reply_timespan": [343.61, 360.1666666666667],
        },
        {
            "role": "assistant",
            "content": "At the window.",
            "related_timespan": [1, 2],
            "reply_timespan": [1, 2.5],
        },
    ],
    "duration": 360.1666666666667,
}
CRR = {
    "id": 1492,
    "task": "CRR",
    "video": "MovieNet/tt0070511.mp4",
    "question": "Three men are walking fast, what is their destination?",
    "answer": "A stone house.",
    "ask_time": 28,
    "clue_time": 40,
    "test_info": [
        {"realtime": time, "type": kind} for time, kind in ((28, 0), (34, 0), (42, 1), (50, 1), (70, 1))
    ],
}
SSR = {
    "id": 1546,
    "task": "SSR",
    "video": "COIN/fYTcH6fSHFM.mp4",
    "tutorial": "MakeSlimeWithGlue",
    "all_steps": ["add ingredients", "mix the materials"],
    "start_time": [5, 18],
    "end_time": [17, 37],
    "test_info": [
        {"realtime": time, "step": step, "type": kind}
        for time, step, kind in (
            (7, "add ingredients", 1),
            (10, "add ingredients", 1),
            (17, "add ingredients", 1),
            (13, "mix the materials", 0),
            (16, "mix the materials", 0),
            (20, "mix the materials", 1),
            (23, "mix the materials", 1),
            (37, "mix the materials", 1),
        )
    ],
}
REC = {
    "id": 1631,
    "task": "REC",
    "video": "thumos/video_validation_0001752.mp4",
    "activity": "soccer penalty",
    "start_times": [3, 9],
    "end_times": [4, 12],
    "test_info": [{"realtime": 4, "count": 1}, {"realtime": 16.0, "count": 2}],
}
STREAMING = {
    "time": "[0:04:46 - 0:05:16]",
    "questions": [
        {
            "task_type": "Proactive Output",
            "question": 'When the cue ball is struck, output "Cue Ball Struck".',
            "time_stamp": "0:04:49",
            "ground_truth_time_stamp": "00:04:58",
            "ground_truth_output": "Cue Ball Struck",
            "required_ability": "working memory",
        }
    ],
    "video_categories": "snooker",
    "video_path": "./videos/sample_48_proactive.mp4",
}
SAMPLES: dict[str, list[dict[str, Any]]] = {
    "streamo": [STREAMO],
    "proactivevideoqa": [PROACTIVE],
    "ovo-bench": [CRR, SSR, REC],
    "streamingbench": [STREAMING],
}


def to_ours(
    folder: Path, name: str, records: object, options: Options | None = None
) -> tuple[list[Annotation], Outcome]:
    path, out = folder / "in.json", folder / "ours.jsonl"
    path.write_text(json.dumps(records), encoding="utf-8")
    outcome = convert(name, "streampro", path, out, options)
    return read_annotations(out), outcome


def from_ours(folder: Path, name: str, annotations: list[Annotation] | None) -> tuple[list[Any], list[str]]:
    path, out = folder / "ours.jsonl", folder / "back.json"
    if annotations is not None:
        write_annotations(path, annotations)
    outcome = convert("streampro", name, path, out)
    return json.loads(out.read_text()), list(outcome.notes.lines())


# What each becomes


def test_streamo(tmp_path: Path) -> None:
    (got,), outcome = to_ours(tmp_path, "streamo", [STREAMO])
    assert (got.id, got.task, got.duration) == (f"{STREAMO['video_path']}@3", "EU", 10)
    assert got.query == Query(3.0, "What is the interviewer holding?")
    assert got.answers == (Answer(5, 6, "A microphone with a logo."), Answer(10, 10, "Now a card."))
    assert list(outcome.notes.lines()) == [
        "Streamo-Instruct 'QA' became EU: 1 record (record 1)",
        "length of the video guessed: the last time of the record (see --durations): 1 record (record 1)",
    ]


def test_streamo_times_follow_the_task(tmp_path: Path) -> None:
    query, answers = Query(2.0, "?"), (Answer(8.0, 12.0, "a"),)
    annotations = [
        Annotation(task, "v/a.mp4", 30.0, task, query, answers) for task in ("EU", "TG", "AA", "GP", "RF")
    ]
    records, notes = from_ours(tmp_path, "streamo", annotations)
    assert [record["response"][0] for record in records] == [
        {"content": "a", "st_time": 8.0, "end_time": 12.0, "time": ""},
        {"content": "a", "st_time": 8.0, "end_time": 12.0, "time": ""},
        {"content": "a", "st_time": "", "end_time": "", "time": "8"},
        {"content": "a", "st_time": "", "end_time": "", "time": "8"},
        {"content": "a", "st_time": "", "end_time": "", "time": "5"},
    ]
    assert records[0]["question"] == [{"content": "?", "time": "2"}]
    kept = "kept under 'streampro', which Streamo-Instruct's own tools do not read: answers: 3 records"
    assert f"{kept} (AA, GP, RF)" in notes


def test_streamo_record_with_several_questions_is_split_and_joined(tmp_path: Path) -> None:
    record = copy.deepcopy(STREAMO)
    record["question"] = [{"content": "one?", "time": "0"}, {"content": "two?", "time": 8}]
    annotations, outcome = to_ours(tmp_path, "streamo", [record, STREAMO])
    assert [[a.text for a in each.answers] for each in annotations[:2]] == [
        ["A microphone with a logo."],
        ["Now a card."],
    ]
    assert "split into one annotation per question: 1 record (record 1)" in outcome.notes.lines()
    assert same(from_ours(tmp_path, "streamo", None)[0], [record, STREAMO])


def test_streamo_leaves_out_what_its_own_script_leaves_out(tmp_path: Path) -> None:
    record = copy.deepcopy(STREAMO)
    record["question"] = []
    record["response"] = [{"content": "", "time": 3}, {"content": "x", "st_time": 1}, *record["response"]]
    (got,), outcome = to_ours(tmp_path, "streamo", [record])
    assert len(got.answers) == 2
    assert got.query.time == 0
    lines = list(outcome.notes.lines())
    assert lines[0] == "no question, so Streamo's default one: 1 record (record 1)"
    assert lines[1] == "kept, but not an answer: responses without text or time: 1 record (record 1)"
    assert same(from_ours(tmp_path, "streamo", None)[0], [record])


def test_proactivevideoqa(tmp_path: Path) -> None:
    (got,), outcome = to_ours(tmp_path, "proactivevideoqa", [PROACTIVE], Options({"": "AA"}))
    assert (got.id, got.task, got.duration) == (PROACTIVE["question_id"], "AA", PROACTIVE["duration"])
    assert got.answers[0] == Answer(343.61, 359.3, "At the door.")
    assert list(outcome.notes.lines()) == [
        "kept, but not part of the query: later turns of the conversation: 1 record (record 1)",
        "ProactiveVideoQA without a kind became AA: 1 record (record 1)",
    ]


def test_ovo_bench(tmp_path: Path) -> None:
    other = {"id": 8, "task": "EPM", "video": "v.mp4", "realtime": 7, "options": ["a"], "gt": 0}
    (crr, ssr, rec), outcome = to_ours(
        tmp_path, "ovo-bench", [CRR, other, SSR, REC, {**other, "task": "OCR"}]
    )
    assert (crr.id, crr.task, crr.query.time, crr.answers) == (
        "1492",
        "TP",
        28,
        (Answer(40, 40, "A stone house."),),
    )
    assert (ssr.task, ssr.query.time, ssr.answers[1]) == ("EU", 0, Answer(18, 37, "mix the materials"))
    assert "MakeSlimeWithGlue" in ssr.query.text
    assert (rec.task, rec.answers) == ("OU", (Answer(4, 4, "1"), Answer(12, 12, "2")))
    assert outcome.read == outcome.written == 3
    lines = list(outcome.notes.lines())
    assert "dropped, not a forward task: EPM: 1 record (record 2)" in lines
    assert "dropped, not a forward task: OCR: 1 record (record 5)" in lines
    # probes are generated by the file's own pattern, so nothing of CRR and SSR had to be kept
    assert "ovo-bench" not in crr.extra and "ovo-bench" not in ssr.extra


def test_streamingbench(tmp_path: Path) -> None:
    options = Options({}, {"sample_48_proactive.mp4": 600.0})
    (got,), outcome = to_ours(tmp_path, "streamingbench", [STREAMING], options)
    assert (got.id, got.task, got.duration) == ("./videos/sample_48_proactive.mp4@0:04:49", "OU", 600)
    assert (got.query.time, got.answers) == (289, (Answer(298, 298, "Cue Ball Struck"),))
    assert len(list(outcome.notes.lines())) == 1  # no guess of the length


def test_streamingbench_csv(tmp_path: Path) -> None:
    path, out = tmp_path / "Proactive_Output.csv", tmp_path / "ours.jsonl"
    path.write_text(
        "time,task_type,question,time_stamp,ground_truth_time_stamp,ground_truth_output,temporal_clue_type,"
        "frames_required,question_id\n"
        '[0:00:00 - 0:01:00],Proactive Output,"When ""20"" appears, output ""20""",00:00:26,00:01:01,20,'
        "Subsequent,single,Proactive Output_sample_1_1\n"
    )
    outcome = convert("streamingbench", "streampro", path, out)
    (got,) = read_annotations(out)
    assert (got.id, got.video) == ("Proactive Output_sample_1_1", "sample_1/video.mp4")
    assert (got.query.time, got.answers) == (26, (Answer(61, 61, "20"),))
    assert "video is a guess from question_id: 1 record (record 1)" in outcome.notes.lines()


def test_streamingbench_takes_one_answer_and_whole_seconds(tmp_path: Path) -> None:
    answers = (Answer(8.4, 9.0, "a"), Answer(12.0, 13.0, "b"))
    annotations = [
        Annotation("fits", "v.mp4", 30.0, "OU", Query(2.7, "?"), answers[:1]),
        Annotation("two", "v.mp4", 30.0, "OU", Query(2.0, "?"), answers),
        Annotation("none", "v.mp4", 30.0, "OU", Query(2.0, "?"), ()),
    ]
    (record,), notes = from_ours(tmp_path, "streamingbench", annotations)
    assert record["time"] == "[00:00:02 - 00:00:08]"
    assert record["questions"][0]["ground_truth_time_stamp"] == "00:00:08"
    assert (
        "dropped, StreamingBench has no form for it: not exactly one answer: 2 records (two, none)" in notes
    )
    assert "times rounded to whole seconds or to one moment: 1 record (fits)" in notes
    path, out = tmp_path / "back.json", tmp_path / "again.jsonl"
    convert("streamingbench", "streampro", path, out)
    assert read_annotations(out) == annotations[:1]


def test_ovo_bench_has_no_form_for_several_answers_of_other_tasks(tmp_path: Path) -> None:
    answers = (Answer(8.0, 9.0, "a"), Answer(12.0, 13.0, "b"))
    annotations = [
        Annotation(task, "v.mp4", 30.0, task, Query(2.0, "Tell me."), answers) for task in ("EU", "OU")
    ]
    (record,), notes = from_ours(tmp_path, "ovo-bench", annotations)
    assert (record["task"], record["tutorial"], record["all_steps"]) == ("SSR", "Tell me.", ["a", "b"])
    assert any(note.startswith("dropped, OVO-Bench has no form for it: several answers") for note in notes)
    assert "SSR has no question of its own and no time of asking: 1 record (EU)" in notes


def test_one_answer_becomes_a_clue(tmp_path: Path) -> None:
    annotation = Annotation("7", "v.mp4", 30.0, "RF", Query(2.0, "Warn me."), (Answer(13.0, 14.0, "car"),))
    (record,), _ = from_ours(tmp_path, "ovo-bench", [annotation])
    assert (record["id"], record["task"], record["ask_time"], record["clue_time"]) == (7, "CRR", 2, 10)
    assert [probe["realtime"] for probe in record["test_info"]] == [2, 6, 12, 20, 40]


# There and back


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_survive(name: str, tmp_path: Path) -> None:
    for form in ([*SAMPLES[name]], [*SAMPLES[name], *SAMPLES[name]]):
        to_ours(tmp_path, name, form)
        assert same(from_ours(tmp_path, name, None)[0], form)


@pytest.mark.parametrize("name", SAMPLES)
def test_edits_made_between_win(name: str, tmp_path: Path) -> None:
    annotations, _ = to_ours(tmp_path, name, SAMPLES[name][:1])
    (first,) = annotations
    edited = Annotation(**{**vars(first), "answers": (Answer(9.0, 9.0, "edited"), *first.answers[1:])})
    (record,), _ = from_ours(tmp_path, name, [edited])
    assert "edited" in json.dumps(record)
    (again,), _ = to_ours(tmp_path, name, [record])
    assert again.answers[0] == Answer(9.0, 9.0, "edited")


seconds = st.integers(0, 2000) | st.floats(0, 2000, allow_subnormal=False)
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(str.strip)
anything = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text("xy", max_size=2), inner, max_size=2),
    max_leaves=4,
)
extras = st.dictionaries(st.sampled_from(["note", "split", "licence"]), anything, max_size=2)
spans = st.tuples(seconds, seconds).map(sorted)
QUICK = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@st.composite
def annotations(draw: st.DrawFn) -> list[Annotation]:
    names = draw(st.lists(words, min_size=1, max_size=3, unique=True))
    found = []
    for name in names:
        spans_of = draw(st.lists(spans, max_size=3))
        answers = tuple(Answer(float(s), float(e), draw(words), draw(extras)) for s, e in spans_of)
        query = Query(float(draw(seconds)), draw(words), draw(extras))
        task = draw(st.sampled_from(list(TASKS)))
        rubric = tuple(draw(st.lists(extras, max_size=1)))
        video, duration = draw(words), draw(st.floats(0.1, 2000))
        found.append(Annotation(name, video, duration, task, query, answers, rubric, draw(extras)))
    return found


@pytest.mark.parametrize("name", FORMATS)
@QUICK
@given(given_annotations=annotations())
def test_our_annotations_survive(name: str, tmp_path: Path, given_annotations: list[Annotation]) -> None:
    records, _ = from_ours(tmp_path, name, given_annotations)
    out = tmp_path / "again.jsonl"
    convert(name, "streampro", tmp_path / "back.json", out)
    back = read_annotations(out)
    assert len(back) == len(records)
    fitting = {a.id for a in given_annotations if name in ("streamo", "proactivevideoqa")}
    assert fitting <= {a.id for a in back}
    expected = {a.id: a for a in given_annotations}
    for annotation in back:  # nothing is kept about a peer that it never saw
        assert annotation == expected[annotation.id]


clock = st.one_of(
    seconds,
    seconds.map(str).filter(lambda text: "e" not in text),
    st.integers(0, 59).map(lambda s: f"0:{s:02d}"),
    st.just(""),
    st.none(),
)


@st.composite
def streamo_records(draw: st.DrawFn) -> dict[str, Any]:
    responses = []
    for _ in range(draw(st.integers(0, 3))):
        response: dict[str, Any] = {"content": draw(words | st.just("")), **draw(extras)}
        if draw(st.booleans()):
            response["st_time"], response["end_time"] = draw(spans)
        response["time"] = draw(clock)
        responses.append(response)
    question = {"content": draw(words), "time": draw(clock), **draw(extras)}
    return {
        "video_path": draw(words),
        "question": [question] if draw(st.booleans()) else [],
        "response": responses,
        **draw(extras),
        **draw(st.sampled_from([{}, {"task_type": "QA", "source": "x"}, {"task_type": "AA"}])),
    }


@st.composite
def proactive_records(draw: st.DrawFn) -> dict[str, Any]:
    turn = {"role": "user", "content": draw(words), "time": draw(seconds), **draw(extras)}
    answers = [
        {
            "content": draw(words),
            "related_timespan": draw(spans),
            "reply_timespan": draw(spans),
            **draw(extras),
        }
        for _ in range(draw(st.integers(0, 2)))
    ]
    return {
        "question_id": draw(st.sampled_from(["a", "b"])),
        "video": draw(words),
        "conversation": [turn, *draw(st.lists(st.fixed_dictionaries({"role": st.just("user")}), max_size=2))],
        "answer": answers,
        "duration": draw(st.floats(0.5, 2000)),
        **draw(extras),
    }


@st.composite
def ovo_records(draw: st.DrawFn) -> dict[str, Any]:
    record: dict[str, Any] = {"id": draw(st.integers(0, 99) | words), "video": draw(words), **draw(extras)}
    several = draw(st.lists(spans, max_size=3))
    starts, ends = [s for s, _ in several], [e for _, e in several]
    texts = [draw(words) for _ in several]
    forms: list[dict[str, Any]] = [
        {
            "task": "CRR",
            "question": draw(words),
            "answer": draw(words),
            "ask_time": draw(seconds),
            "clue_time": 3,
        },
        {"task": "SSR", "tutorial": draw(words), "all_steps": texts, "start_time": starts, "end_time": ends},
        {"task": "REC", "activity": draw(words), "start_times": starts, "end_times": ends},
    ]
    probes = draw(
        st.lists(st.fixed_dictionaries({"realtime": seconds, "type": st.integers(0, 1)}), max_size=2)
    )
    return {**record, **draw(st.sampled_from(forms)), "test_info": probes}


@st.composite
def streaming_records(draw: st.DrawFn) -> dict[str, Any]:
    stamp = st.integers(0, 9999).map(lambda s: f"{s // 3600}:{s // 60 % 60:02d}:{s % 60:02d}")
    questions = [
        {
            "question": draw(words),
            "time_stamp": draw(stamp),
            "ground_truth_time_stamp": draw(stamp),
            "ground_truth_output": draw(words),
            **draw(extras),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]
    return {"video_path": draw(st.sampled_from(["v", "w"])), "questions": questions, **draw(extras)}


PEERS = {
    "streamo": streamo_records(),
    "proactivevideoqa": proactive_records(),
    "ovo-bench": ovo_records(),
    "streamingbench": streaming_records(),
}


@pytest.mark.parametrize("name", PEERS)
@QUICK
@given(data=st.data())
def test_peers_records_survive(name: str, tmp_path: Path, data: st.DataObject) -> None:
    records = data.draw(st.lists(PEERS[name], min_size=1, max_size=3))
    to_ours(tmp_path, name, records)
    back, notes = from_ours(tmp_path, name, None)
    assert same(back, records)
    assert not [note for note in notes if "dropped" in note]


# What goes wrong


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        (
            "streamo",
            {"question": [{"content": "x", "time": "soon"}]},
            "key 'question[0].time': expected seconds",
        ),
        ("streamo", {"video_path": None}, "key 'video_path': expected text, got null"),
        ("streamo", {"response": {}}, "key 'response': expected a list of objects, got an object"),
        (
            "streamo",
            {"response": [{"content": "x", "st_time": 5, "end_time": 4}]},
            "key 'response[0].end_time': expected a time not before st_time (5), got 4",
        ),
        (
            "streamo",
            {"response": [{"content": 1, "time": 1}]},
            "key 'response[0].content': expected text, got a number",
        ),
        ("proactivevideoqa", {"duration": 0}, "key 'duration': expected a positive number of seconds, got 0"),
        (
            "proactivevideoqa",
            {"conversation": [{"role": "assistant"}]},
            "key 'conversation': expected a list that",
        ),
        (
            "ovo-bench",
            {"clue_time": "40"},
            "key 'clue_time': expected a number of seconds, 0 or more, got text",
        ),
        ("ovo-bench", {"id": ""}, "key 'id': expected a whole number or text"),
        ("ovo-bench", {**SSR, "end_time": [17]}, "key 'end_time': expected a list of 2 times, got one of 1"),
        (
            "ovo-bench",
            {**SSR, "end_time": [17, 3]},
            "key 'end_time[1]': expected a time not before start_time[1]",
        ),
        ("streamingbench", {"video_path": 3}, "key 'video_path': expected text, got a number"),
        (
            "streamingbench",
            {"questions": [{**STREAMING["questions"][0], "time_stamp": "1 h"}]},
            "key 'questions[0].time_stamp': expected a time stamp such as",
        ),
        ("streamingbench", {"streampro": 3}, "key 'streampro': expected a list of objects, got a number"),
        ("streamingbench", {"streampro": [{"at": ["id"]}]}, "key 'streampro[0].is': expected a value"),
        (
            "streamingbench",
            {"streampro": [{"at": [None], "is": 1}]},
            "key 'streampro[0].at': expected a list of keys",
        ),
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
        ("", ""),
        ("[", "expected JSON, got an error at column 2"),
        ('[{"a": 1, "a": 2}]', "key 'a' twice"),
        ("[NaN]", "NaN, which JSON does not have"),
        ("[" * 100_000, "too deeply nested"),
        ("[\n1,", "expected JSON, got an error at line 2, column 3"),
        ("[1]", "record 1: expected an object, got a number"),
        ('{"a": 1}\n{"a"', "line 2: expected one JSON object, got an error at column"),
    ],
)
def test_text_that_is_no_json(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "in.json"
    path.write_text(text)
    if not text:
        assert convert("streamo", "streampro", path, tmp_path / "out.jsonl").read == 0
        return
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


def test_kept_parts_of_an_edited_record_are_left_out(tmp_path: Path) -> None:
    annotation = Annotation("q", "v.mp4", 30.0, "AA", Query(2.0, "?"), (Answer(8.0, 9.0, "a"),))
    (record,), _ = from_ours(tmp_path, "streamingbench", [annotation])
    record["questions"][0]["ground_truth_output"] = "edited"
    (got,), _ = to_ours(tmp_path, "streamingbench", [record])
    assert (got.id, got.task, got.answers) == ("q", "AA", (Answer(8.0, 9.0, "edited"),))


@pytest.mark.parametrize(("source", "target"), [("streamo", "ovo-bench"), ("streampro", "streampro")])
def test_one_side_must_be_ours(source: str, target: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="one of the two must be streampro"):
        convert(source, target, tmp_path / "a", tmp_path / "b")


def test_input_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("")
    with pytest.raises(ConfigError, match="is the file to be read"):
        convert("streamo", "streampro", path, tmp_path / "." / "a.jsonl")


def test_task_map(tmp_path: Path) -> None:
    records = [STREAMO, {**STREAMO, "task_type": "narration"}, {**STREAMO, "task_type": "AA"}]
    annotations, _ = to_ours(tmp_path, "streamo", records, Options({"QA": "TP", "": "EC"}))
    assert [a.task for a in annotations] == ["TP", "EC", "AA"]


def test_durations(tmp_path: Path) -> None:
    path = tmp_path / "durations.json"
    path.write_text('{"v.mp4": 12.5}')
    assert read_durations(path) == {"v.mp4": 12.5}
    path.write_text('{"v.mp4": "long"}')
    with pytest.raises(FormatError, match=r"key 'v\.mp4': expected a number of seconds"):
        read_durations(path)
