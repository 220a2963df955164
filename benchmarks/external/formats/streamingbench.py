"""StreamingBench's proactive questions: the JSON both ways, the CSV (``Proactive_Output.csv``) to ours only.

JSON: an array of ``{"time": "[0:09:40 - 0:10:10]", "questions": [{"task_type", "question", "time_stamp",
"ground_truth_time_stamp", "ground_truth_output", "required_ability"}], "video_categories",
"video_path"}``, checked against public samples; time stamps are whole seconds, "HH:MM:SS". A question
becomes OU with one answer at its true moment. The CSV has no path of the video; ``question_id`` "Proactive
Output_sample_1_2" is question 2 of sample 1, so "sample_1/video.mp4" is put in, and said so (the layout of
the unpacked videos was not at hand).

The other way only an annotation with exactly one answer fits: its first best time is the true moment,
rounded to a second. The exact times are kept beside it, like all else that StreamingBench has no place
for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path

from benchmarks.external.formats.common import Record, Unfit
from benchmarks.external.formats.notes import Notes
from benchmarks.external.records import read_records
from benchmarks.external.streamingbench import parse_stamp, question_id, read_rows
from benchmarks.metric.records import Item
from benchmarks.metric.tasks import TASKS


class StreamingBench:
    """Converter; see :class:`benchmarks.external.formats.common.Format`."""

    name = "streamingbench"
    title = "StreamingBench"
    has_duration = False

    def read(self, path: Path, notes: Notes) -> Iterator[tuple[Item, int | None]]:
        if path.suffix.lower() == ".csv":
            for row in read_rows(path):
                notes.add("video is a guess from question_id", row.place.short)
                yield _from_row(row), None
            return
        for number, record in enumerate(read_records(path), start=1):
            questions = record.items("questions")
            if not questions:
                notes.add("dropped, has no question", record.place.short)
            for question in questions:
                unit = {**record.value, "questions": [question.value]}
                yield Item(record.place, "", unit), number if len(questions) > 1 else None

    def decode(self, record: Item) -> Record:
        question = record.items("questions")[0]
        moment = parse_stamp(question, "ground_truth_time_stamp")
        return {
            "id": question_id(question, record.text("video_path")),
            "video": record.text("video_path"),
            "duration": 0.0,
            "task": "OU",
            "query": {"time": parse_stamp(question, "time_stamp"), "text": question.text("question")},
            "answers": [{"start": moment, "end": moment, "text": question.text("ground_truth_output")}],
        }

    def kind(self, record: Item) -> str:
        return str(record.items("questions")[0].get("task_type", ""))

    def encode(self, annotation: Record) -> Record:
        answers, query = annotation["answers"], annotation["query"]
        if len(answers) != 1:
            raise Unfit("not exactly one answer")
        task = TASKS[annotation["task"]]
        moment = max(0.0, task.best_time(answers[0]["start"], answers[0]["end"], query["time"])[0])
        asked, due = _stamp(int(query["time"])), _stamp(round(moment))
        return {
            "time": f"[{asked} - {due}]",
            "questions": [
                {
                    "task_type": "Proactive Output",
                    "question": query["text"],
                    "time_stamp": asked,
                    "ground_truth_time_stamp": due,
                    "ground_truth_output": answers[0]["text"],
                }
            ],
            "video_path": annotation["video"],
        }

    def remarks(self, record: Record) -> Iterator[str]:
        steps = {tuple(change["at"]) for change in record.get("streampro", [])}
        if ("query", "time") in steps or any(step[0] == "answers" and step[-1] == "start" for step in steps):
            yield "times rounded to whole seconds or to one moment"

    def merge(self, records: Iterable[tuple[Record, int | None]]) -> Iterator[Record]:
        for number, group in groupby(records, key=lambda pair: pair[1]):
            members = [record for record, _ in group]
            if number is None:
                yield from members
                continue
            questions = [question for member in members for question in member["questions"]]
            yield {**members[0], "questions": questions}


def _from_row(row: Item) -> Item:
    name = row.text("question_id")
    sample = re.search(r"sample_\d+", name)
    if not sample:
        row.fail("question_id", f'a name with "sample_" and a number, got {name!r}')
    question = {key: value for key, value in row.value.items() if key != "time"}
    value = {"time": row.get("time", ""), "questions": [question], "video_path": f"{sample[0]}/video.mp4"}
    return Item(row.place, "", value)


def _stamp(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
