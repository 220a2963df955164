"""There and back gives the same records, for all formats."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmarks.external.formats.changes import same
from benchmarks.external.formats.run import FORMATS, convert
from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    Query,
    read_annotations,
)
from benchmarks.metric.tasks import TASKS
from tests.benchmarks.external.formats.samples import (
    SAMPLES,
    from_ours,
    to_ours,
)


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


def test_kept_parts_of_an_edited_record_are_left_out(tmp_path: Path) -> None:
    annotation = Annotation("q", "v.mp4", 30.0, "AA", Query(2.0, "?"), (Answer(8.0, 9.0, "a"),))
    (record,), _ = from_ours(tmp_path, "streamingbench", [annotation])
    record["questions"][0]["ground_truth_output"] = "edited"
    (got,), _ = to_ours(tmp_path, "streamingbench", [record])
    assert (got.id, got.task, got.answers) == ("q", "AA", (Answer(8.0, 9.0, "edited"),))
