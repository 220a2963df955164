"""TimeDiff of VideoLLM-online: how many seconds a narration comes too early or too late.

A conversation is a row of true narrations at frames f_0 < f_1 < ...; the turn of f_k is the n frames
(f_(k-1), f_k]. The turn's error, in frames, is

- f_k - f of the first frame f of the turn at which the model speaks, if it does (0: at the right frame),
- else f - f_k of the first frame at which it speaks after f_k, looked for over min(n - 1, frames of the
  next turn) frames only, and that number of frames if it stays silent there too,
- 0 for silence in the last turn.

The mean over the turns of a conversation, then over conversations, divided by the frame rate is TimeDiff
in seconds; lower is better. Because lateness is capped by the spacing of the narrations and missing the
last one is free, a model that never speaks has a finite, often small TimeDiff: read it beside the
baselines and the share of turns in which anything was said. Narrations are rounded up to frames, one that
repeats the text before it is left out, of two at one frame the later stays, and the first of a
conversation starts the clock and is not measured; a conversation with nothing to measure counts 0. All of
this is in the project's ``stream_evaluate`` (models/modeling_live.py) and ``data/ego4d/narration.py``.
MMDuet's and MMDuet2's public evaluation code has no TimeDiff.

The project measures during a teacher-forced pass of its own model and stores no predictions, so there is
no prediction format to read: replies are read as in :mod:`benchmarks.external.replies`, and since they come
from a model that ran freely, a late reply is used up by the turn it was late for (this project's choice).
Lateness is not cut at the end of the video, whose length the file does not hold.

Annotations: ``narration_stream_*.json``, {video_uid: {annotation_uid: [{"time", "text"}]}}, with the
replies' id "video_uid/annotation_uid" (the layout is that of the code which writes it; the file needs
Ego4D's licence and was not at hand); or this project's annotations, whose query starts the clock and whose
answers are due at the last of their best response times.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.external.records import read_object, read_records
from benchmarks.external.replies import Replies, Reply, check_known, missing, read_replies
from benchmarks.external.table import MetricReport, Scores, mean, missing_note
from benchmarks.metric.annotations import Annotation, FormatError, read_annotations
from benchmarks.metric.baselines import TIMER_S
from benchmarks.metric.records import Item
from benchmarks.metric.tasks import SLACK_S, TASKS

FPS = 2.0
"""Frames per second that VideoLLM-online is measured at."""


@dataclass(frozen=True)
class Conversation:
    """True moments to speak, as frames; ``frames[0]`` starts the clock and is not measured."""

    id: str
    frames: tuple[int, ...]


@dataclass(frozen=True)
class TurnError:
    """How far off a turn was, in frames, and the frame of the reply it was measured with, if any."""

    frames: int
    reply: int | None


def turn_errors(frames: Sequence[int], said: Iterable[int]) -> list[TurnError]:
    """Errors of the turns that end at ``frames[1:]``; ``said`` are the frames of replies."""
    left = sorted(set(said))
    errors: list[TurnError] = []
    for index in range(1, len(frames)):
        before, due = frames[index - 1], frames[index]
        last = index == len(frames) - 1
        # "due" itself when the turn is one frame long: then there is nowhere to be late
        until = due if last else due + min(due - before - 1, frames[index + 1] - due)
        reply = next((frame for frame in left if before < frame <= until), None)
        errors.append(TurnError(abs(due - reply) if reply is not None else until - due, reply))
        if reply is not None and reply > due:
            left.remove(reply)
    return errors


def to_frame(time: float, fps: float) -> int:
    """The first frame at or after a time."""
    return math.ceil(time * fps - SLACK_S)


def read_conversations(path: Path, fps: float) -> list[Conversation]:
    """Conversations of a narration stream or of this project's annotations. Raises FormatError."""
    records = read_records(path)
    if records and {"query", "answers"} <= records[0].value.keys():
        conversations = [_from_annotation(annotation, fps) for annotation in read_annotations(path)]
    else:
        conversations = list(_narrations(read_object(path), fps))
    if not conversations:
        raise FormatError(f"{path}: expected at least one conversation, got none")
    return conversations


def score(annotations: Path, predictions: Path, fps: float = FPS) -> MetricReport:
    """TimeDiff of a file of replies, with baselines. Raises FormatError."""
    conversations = read_conversations(annotations, fps)
    names = [conversation.id for conversation in conversations]
    replies = read_replies(predictions)
    check_known(replies, names, predictions)
    turns = sum(len(c.frames) - 1 for c in conversations)
    empty = sum(len(c.frames) == 1 for c in conversations)
    return MetricReport(
        metric="TimeDiff, VideoLLM-online (lower is better)",
        columns={"TimeDiff": "s", "spoke": "points"},
        predictions=_scores(conversations, replies, fps),
        baselines={name: _scores(conversations, said, fps) for name, said in _baselines(conversations, fps)},
        notes=(
            f"{turns} turns of {len(conversations)} conversations at {fps:g} frames a second; "
            "spoke: share of turns with a reply",
            *((f"{empty} conversations have nothing to measure and count 0",) if empty else ()),
            *missing_note(missing(replies, names), len(names), "conversations"),
        ),
        items=tuple(_items(conversations, replies, fps)),
    )


def _narrations(videos: Item, fps: float) -> Iterator[Conversation]:
    for video in videos.value:
        annotators = videos.child(video)
        for annotator in annotators.value:
            conversation = Conversation(f"{video}/{annotator}", _narrated(annotators, annotator, fps))
            if conversation.frames:
                yield conversation


def _narrated(annotators: Item, annotator: str, fps: float) -> tuple[int, ...]:
    frames: list[int] = []
    last_text = None
    for narration in annotators.items(annotator):
        text, frame = narration.text("text", empty=True), to_frame(narration.seconds("time"), fps)
        if text == last_text:
            continue
        if frames and frame < frames[-1]:
            narration.fail("time", "narrations in the order of time")
        if not frames or frame > frames[-1]:
            frames.append(frame)
        last_text = text
    return tuple(frames)


def _from_annotation(annotation: Annotation, fps: float) -> Conversation:
    task, asked = TASKS[annotation.task], annotation.query.time
    start = math.floor(asked * fps + SLACK_S)
    due = {to_frame(task.best_time(a.start, a.end, asked)[1], fps) for a in annotation.answers}
    return Conversation(annotation.id, (start, *sorted(frame for frame in due if frame > start)))


def _errors(conversation: Conversation, replies: Iterable[Reply], fps: float) -> list[TurnError]:
    return turn_errors(conversation.frames, (to_frame(reply.time, fps) for reply in replies))


def _scores(conversations: Sequence[Conversation], replies: Replies, fps: float) -> Scores:
    errors = [_errors(conversation, replies.get(conversation.id, ()), fps) for conversation in conversations]
    frames = mean(mean(float(turn.frames) for turn in turns) or 0.0 for turns in errors)
    return {
        "TimeDiff": None if frames is None else frames / fps,
        "spoke": mean(turn.reply is not None for turns in errors for turn in turns),
    }


def _items(conversations: Sequence[Conversation], replies: Replies, fps: float) -> Iterator[dict[str, Any]]:
    for conversation in conversations:
        turns = _errors(conversation, replies.get(conversation.id, ()), fps)
        yield {"id": conversation.id, "error_s": [turn.frames / fps for turn in turns]}


def _baselines(conversations: Sequence[Conversation], fps: float) -> Iterator[tuple[str, Replies]]:
    def every(conversation: Conversation, step: int) -> tuple[Reply, ...]:
        first, last = conversation.frames[0], conversation.frames[-1]
        return tuple(Reply(frame / fps, "") for frame in range(first + step, last + 1, step))

    says: dict[str, Callable[[Conversation], tuple[Reply, ...]]] = {
        "always silent": lambda c: (),
        "constant, every frame": lambda c: every(c, 1),
        f"blind timer, every {TIMER_S:g} s": lambda c: every(c, max(1, round(TIMER_S * fps))),
    }
    for name, say in says.items():
        yield name, {conversation.id: say(conversation) for conversation in conversations}
