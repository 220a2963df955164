"""What is wrong with annotation files, all of it, before hours are spent on training by them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations
from pathlib import Path

import av

from benchmarks.metric.annotations import Annotation, Answer, FormatError, Response, parse_annotation
from benchmarks.metric.judges.iou import IouJudge, parse_interval
from benchmarks.metric.progress import Progress
from benchmarks.metric.tasks import TASKS

DIMENSIONS = ("granularity", "coherence", "coverage")
INTERVAL_TASKS = ("EU", "TP", "EC", "AC")
_LEAST_IOU = 0.5
"""A grounding text that covers its event less than this names another time."""


@dataclass(frozen=True)
class Problem:
    """``line`` 0: the file as a whole."""

    path: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.path}, line {self.line}: {self.what}" if self.line else f"{self.path}: {self.what}"


@dataclass(frozen=True)
class Clip:
    """What a video file holds: ``duration`` in seconds, or why it can't be used."""

    duration: float = 0.0
    reason: str | None = None


@dataclass(frozen=True)
class Checked:
    """All problems, by file and line, and the questions that could be read."""

    problems: tuple[Problem, ...]
    annotations: tuple[Annotation, ...]
    clips: dict[Path, Clip]


@dataclass(frozen=True)
class Limits:
    """``fps``: timesteps a second. ``count_tokens`` of a text, which may have ``max_response_tokens``; None:
    not checked.
    """

    fps: float = 1.0
    count_tokens: Callable[[str], int] | None = None
    max_response_tokens: int = 0


def check_files(paths: Sequence[Path], limits: Limits, *, clips: bool = True, workers: int = 2) -> Checked:
    """Check every line of every file. ``clips``: look into the videos too, ``workers`` at a time."""
    problems: list[Problem] = []
    annotations: list[Annotation] = []
    for path in paths:
        found, read = _read(path)
        problems += found
        annotations += read
        if not found and not read:
            problems.append(Problem(path, 0, "holds no question"))
    videos = dict.fromkeys(annotation.video_path for annotation in annotations) if clips else {}
    facts = _look_into(list(videos), workers)
    for annotation in annotations:
        clip = facts.get(annotation.video_path, Clip(annotation.duration))
        said = [*_clip_problems(annotation, clip, limits.fps), *_problems(annotation, limits)]
        problems += [Problem(annotation.path, annotation.line, what) for what in said]
    order = {path: i for i, path in enumerate(paths)}
    problems.sort(key=lambda problem: (order[problem.path], problem.line))
    return Checked(tuple(problems), tuple(annotations), facts)


def probe(path: Path) -> Clip:
    """Duration of a video by its last packet: what a header promises, a file cut short does not hold."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return Clip(reason="holds no video")
            stream = container.streams.video[0]
            first = next(container.decode(stream), None)
            if first is None:
                return Clip(reason="holds no frame that can be decoded")
            base = stream.time_base or Fraction(0)
            last = origin = float((stream.start_time or 0) * base)
            container.seek(0)
            for packet in container.demux(stream):
                if packet.pts is not None:
                    end = (packet.pts + (packet.duration or 0)) * base
                    last = max(last, float(end))
            return Clip(last - origin)
    except (av.FFmpegError, OSError, ValueError) as error:
        return Clip(reason=f"can't be read ({getattr(error, 'strerror', None) or error})")


def _read(path: Path) -> tuple[list[Problem], list[Annotation]]:
    try:
        data = path.read_bytes().removeprefix(b"\xef\xbb\xbf").removesuffix(b"\n")
    except OSError as error:
        return [Problem(path, 0, f"can't be read ({error.strerror}); check the path")], []
    problems: list[Problem] = []
    annotations: list[Annotation] = []
    lines: dict[str, int] = {}
    for number, raw in enumerate(data.split(b"\n") if data else [], start=1):
        try:
            annotation = parse_annotation(raw.decode("utf-8"), path, number)
        except UnicodeDecodeError as error:
            problems.append(Problem(path, number, f"byte {error.start + 1} is not UTF-8 text"))
            continue
        except FormatError as error:
            what = str(error).removeprefix(f"{path}, line {number}").lstrip(":, ")
            problems.append(Problem(path, number, what))
            continue
        if annotation.id in lines:
            what = f"id {annotation.id!r} is that of line {lines[annotation.id]} too"
            problems.append(Problem(path, number, what))
        lines.setdefault(annotation.id, number)
        annotations.append(annotation)
    return problems, annotations


def _look_into(videos: Sequence[Path], workers: int) -> dict[Path, Clip]:
    # Threads: decoding and demuxing happen outside of Python.
    with ThreadPoolExecutor(max(1, workers)) as pool:
        found = {}
        with Progress(len(videos), "clips", unit="clip") as progress:
            for video, clip in zip(videos, pool.map(probe, videos), strict=True):
                found[video] = clip
                progress.advance()
        return found


def _clip_problems(annotation: Annotation, clip: Clip, fps: float) -> Iterator[str]:
    if not annotation.video_path.is_file():
        yield f"video {annotation.video}: {annotation.video_path} is not there"
    elif clip.reason:
        yield f"video {annotation.video}: {clip.reason}"
    elif abs(clip.duration - annotation.duration) > 1.0 / fps:
        yield f"duration is {annotation.duration:g} s, but {annotation.video} lasts {clip.duration:.2f} s"


def _problems(annotation: Annotation, limits: Limits) -> Iterator[str]:
    query = annotation.query.time
    if query >= annotation.duration:
        yield f"the query at {query:g} s comes when the clip has ended ({annotation.duration:g} s)"
    for i, answer in enumerate(annotation.answers):
        name = f"answers[{i}] ({answer.start:g}-{answer.end:g} s)"
        yield from (f"{name}: {what}" for what in _answer_problems(annotation, answer, limits))
    for (i, a), (j, b) in combinations(enumerate(annotation.answers), 2):
        if (a.start, a.end) == (b.start, b.end) and a.text == b.text:
            yield f"answers[{i}] and answers[{j}] are the same"
        elif annotation.task in INTERVAL_TASKS and a.start < b.end and b.start < a.end:
            yield (
                f"answers[{i}] ({a.start:g}-{a.end:g} s) and answers[{j}] ({b.start:g}-{b.end:g} s) overlap"
            )
    yield from _rubric_problems(annotation)


def _answer_problems(annotation: Annotation, answer: Answer, limits: Limits) -> Iterator[str]:
    task, query = TASKS[annotation.task], annotation.query.time
    if answer.end > annotation.duration + 1e-6:
        yield f"ends after the clip ({annotation.duration:g} s)"
    # What starts an answer's clock must not be over when the question comes; GP's first step begins with it.
    known = answer.start if task.anchor == "start" and annotation.task != "GP" else answer.end
    if known < query - 1e-6:
        yield f"lies before the query at {query:g} s"
    if annotation.task == "TG":
        yield from _grounding_problems(annotation, answer)
    if limits.count_tokens is not None:
        length = limits.count_tokens(answer.text)
        if length > limits.max_response_tokens:
            yield f"the text has {length} tokens, a response has {limits.max_response_tokens} at most"


def _grounding_problems(annotation: Annotation, answer: Answer) -> Iterator[str]:
    if parse_interval(answer.text) is None:
        yield f"the text {answer.text!r} names no interval such as {answer.start:.0f}s-{answer.end:.0f}s"
        return
    covered = IouJudge().accuracy(annotation, answer, Response(answer.end, answer.text))
    whole = Answer(
        math.floor(answer.start), math.ceil(answer.end), answer.text
    )  # texts may be in whole seconds
    if max(covered, IouJudge().accuracy(annotation, whole, Response(answer.end, answer.text))) < _LEAST_IOU:
        yield f"the text {answer.text!r} names another time than the event's"


def _rubric_problems(annotation: Annotation) -> Iterable[str]:
    for i, entry in enumerate(annotation.rubric):
        if entry.get("dimension") not in DIMENSIONS:
            dimension = entry.get("dimension")
            yield f"rubric[{i}]: dimension is {dimension!r}, expected one of {', '.join(DIMENSIONS)}"
        if not isinstance(entry.get("rubric"), str) or not entry["rubric"].strip():
            yield f"rubric[{i}]: expected a statement under 'rubric'"
