"""StreamingBench's proactive output: what each record becomes, and what is lost."""

from __future__ import annotations

from pathlib import Path

from benchmarks.external.formats.run import Options, convert
from benchmarks.metric.annotations import (
    Annotation,
    Answer,
    Query,
    read_annotations,
)
from tests.benchmarks.external.formats.samples import (
    STREAMING,
    from_ours,
    to_ours,
)


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
