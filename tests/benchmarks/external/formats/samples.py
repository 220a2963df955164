"""Hand-written records in the peers' real formats, and their conversion there and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.external.formats.run import Options, Outcome, convert
from benchmarks.metric.annotations import (
    Annotation,
    read_annotations,
    write_annotations,
)

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
