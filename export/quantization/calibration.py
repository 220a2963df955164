"""What weights in 4 bits are calibrated with: texts, or clips with the questions that are asked about them.

A clip is written as the runtime writes it: prompt, questions, frames and decisions. Only what a model
computes over such tokens is used, never whether it answers well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import torch
from tokenizers import Tokenizer

from benchmarks.metric.annotations import Annotation, read_annotations
from edge_runtime.bundle.stream_format import TurnEncoder
from edge_runtime.engine.preprocess import normalise
from export.errors import ExportError
from export.validation.reference import Reference
from train.data.features import read_frames
from train.models.base import Visual

STREAMS = 32
"""Texts and clips in all, drawn evenly from what the files hold."""
TEXT_TOKENS = 512
CLIP_TOKENS = 1_024
"""Longest text and clip; of a clip the part around its first answer is taken."""
_ANNOTATIONS = ".jsonl"
_BEFORE = 3 / 4
"""Share of a clip's tokens that come before its first answer."""


@dataclass(frozen=True)
class Stream:
    """Token ids, and the frames of all image placeholders among them."""

    ids: list[int]
    visual: Visual


@dataclass(frozen=True)
class Eyes:
    """How a model sees frames. ``size``: height and width; ``mean``, ``std``: as the manifest has them.

    ``reference``: a stream in PyTorch, whose frames are seen and whose cache stays empty.
    """

    reference: Reference
    size: tuple[int, int]
    mean: float
    std: float


def is_video(file: Path) -> bool:
    """Return whether ``file`` is a video, going by its contents. Raises ExportError when it cannot be
    read."""
    try:
        with av.open(str(file)) as container:
            return bool(container.streams.video) and container.format.name not in ("tty", "srt")
    except OSError as error:
        if isinstance(error, av.FFmpegError):
            return False
        raise ExportError(f"{file}: cannot be read ({error.strerror})") from error
    except (av.FFmpegError, ValueError):
        return False


def read_streams(
    files: Sequence[Path], tokenizer: Tokenizer, encoder: TurnEncoder, eyes: Eyes, width: int
) -> list[Stream]:
    """Return at most STREAMS streams of the files: UTF-8 texts, annotation files (``.jsonl``) and videos.

    ``width``: of the decoder. Raises ExportError or FormatError for a file that cannot be used.
    """
    found: list[Stream] = []
    for number, file in enumerate(files):
        count = STREAMS * (number + 1) // len(files) - STREAMS * number // len(files)
        if file.suffix == _ANNOTATIONS:
            chosen = _spread(read_annotations(file), count)
            found += [_clip(one.video_path, one, encoder, eyes) for one in chosen]
        elif is_video(file):
            found.append(_clip(file, None, encoder, eyes))
        else:
            none = Visual(torch.zeros(0, encoder.stream_format.frame_tokens, width))
            found += [Stream(ids, none) for ids in _texts(file, tokenizer, count)]
    if not found:
        raise ExportError(
            f"--calibrate {files[0]}: holds nothing to calibrate with; give a longer text or clips"
        )
    return found


def _spread(items: Sequence[Annotation], count: int) -> list[Annotation]:
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _texts(file: Path, tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Cut a text into windows of TEXT_TOKENS and take ``count`` of them, at even distances."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(
            f"--calibrate {file}: neither a text in UTF-8 nor a video nor annotations (.jsonl) ({error})"
        ) from error
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    windows = [ids[i : i + TEXT_TOKENS] for i in range(0, len(ids), TEXT_TOKENS)]
    windows = [window for window in windows if len(window) > 1]
    if len(windows) <= count:
        return windows
    return [windows[i * len(windows) // count] for i in range(count)]


def _clip(clip: Path, asked: Annotation | None, encoder: TurnEncoder, eyes: Eyes) -> Stream:
    """Write a clip as the runtime does, up to CLIP_TOKENS tokens of it."""
    answer = asked.answers[0] if asked is not None and asked.answers else None
    turns = encoder.stream_format.frames_per_turn
    turn_tokens = len(encoder.turn_ids(99)) + len(encoder.silence_ids())
    longest = max(CLIP_TOKENS // turn_tokens, 2)
    first = 0
    if answer is not None:
        first = max(int(answer.end * encoder.stream_format.fps / turns - longest * _BEFORE), 0)
    ids, frames = list(encoder.prefix_ids()), list[Visual]()
    number = 0
    for index, seen in _turns(clip, encoder, eyes):
        if index // turns < first:
            continue
        turn = encoder.turn(index, asks=number == 0 and asked is not None)
        ids += turn.head if number else []
        ids += turn.before
        if number == 0 and asked is not None:
            ids += encoder.query_ids(asked.query.text)
        ids += turn.after
        frames += seen
        start, end = encoder.stream_format.turn_interval(index)
        speaks = answer is not None and start < answer.end <= end and encoder.responses
        ids += encoder.response_ids(answer.text) if speaks and answer else encoder.silence_ids()
        number += 1
        if number == longest:
            break
    if not frames:
        raise ExportError(f"--calibrate: {clip} ends before it fills a timestep; give a longer clip")
    return Stream(ids, _joined(frames))


def _turns(clip: Path, encoder: TurnEncoder, eyes: Eyes) -> Iterator[tuple[int, list[Visual]]]:
    """Number of each turn's last frame, and what the model sees of the turn's frames."""
    count = encoder.stream_format.frames_per_turn
    held: list[Visual] = []
    try:
        for index, frame in read_frames(clip, encoder.stream_format.fps, eyes.size):
            eyes.reference.see(normalise(frame, eyes.mean, eyes.std))
            held.append(eyes.reference.seen())
            if index % count == count - 1:
                if len(held) == count:
                    yield index, held
                held = []
    except (av.FFmpegError, ValueError, OSError) as error:
        raise ExportError(f"--calibrate: {clip} cannot be read as a video ({error})") from error


def _joined(frames: Sequence[Visual]) -> Visual:
    levels = [frame.deepstack for frame in frames if frame.deepstack is not None]
    tokens = torch.cat([frame.tokens for frame in frames])  # [N, V, D]
    return Visual(tokens, torch.cat(levels, dim=1) if levels else None)
