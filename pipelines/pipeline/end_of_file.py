"""The end of a recorded video: where it is, and whether the video is whole.

"Truncated" and "damaged" are said on evidence alone: bytes that the file promises and does not have,
something else where a part of the video should begin, coded frames behind the last one that could be
decoded, or an MP4 whose index lists more frames than came. A header that gives a longer time is none: then
the last frame stays on screen.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_runtime.errors import SourceError
from pipelines.pipeline.decoding.decodebin import Decoding
from pipelines.pipeline.frame_queue import StateChange
from pipelines.pipeline.progress import Progress
from pipelines.sources.base import Source
from pipelines.sources.container import Structure
from pipelines.sources.errors import UNREADABLE, Problem
from pipelines.sources.skipped import Skipped

_NS = 1_000_000_000
_SAID_IN_HEADER = ("qtdemux", "matroskademux", "flvdemux", "avidemux")
"""Demuxers whose duration was written by who made the file. Others guess it from the size."""
_SLACK_S = 0.5
_ROUNDING_S = 0.002
"""Some headers give the start of the last frame: that says nothing about its end."""


@dataclass(frozen=True)
class Reading:
    """How far a connection has read its source."""

    source: Source
    progress: Progress
    decoding: Decoding | None
    """None for raw video."""
    duration_s: float | None
    """What a file's header, or a playlist that has an end, says."""


@dataclass(frozen=True)
class Ending:
    """Where a recorded video ends, in seconds from its first frame."""

    end_s: float
    promised_s: float | None = None
    """The duration in the file's header, if it is later than ``end_s``."""
    evidence: str = ""
    """What shows that the file is not whole."""
    hint: str = "copy it again"

    @property
    def problem(self) -> Problem | None:
        """That the video is not whole, if so."""
        if not self.evidence:
            return None
        whole = f" of {self.promised_s:.1f} s" if self.promised_s is not None else ""
        return Problem(f"ends at {self.end_s:.1f} s{whole}: {self.evidence}", self.hint)


def find(reading: Reading) -> Ending:
    """Find the end of what was read, once everything was decoded."""
    progress, decoding = reading.progress, reading.decoding
    if decoding is None:  # raw video has no header
        end_ns = progress.last_ns if reading.source.stamped_at_end else progress.end_ns
        return Ending(end_ns / _NS)
    coded = decoding.coded
    structure = reading.source.structure()
    end_s = progress.end_ns / _NS
    header_s = _header_s(reading, decoding, structure)
    # With sound beside it the header may give the sound's length.
    header_s = header_s if header_s is not None and not decoding.other_streams else None
    late = header_s is not None and header_s - end_s > _tolerance_s(header_s)
    promised_s = header_s if late else None
    if structure is not None and structure.missing_bytes:
        return Ending(end_s, promised_s, truncated(structure.missing_bytes))
    lost_s = (coded.last_ns - progress.newest_raw_ns) / _NS
    if coded.count > progress.decoded and lost_s > _tolerance_s(end_s):
        return Ending(end_s, end_s + lost_s if promised_s is None else promised_s, "the file is damaged")
    stays_until_s = (coded.end_ns - progress.start_ns) / _NS if decoding.demuxer == "qtdemux" else 0.0
    if structure is None:  # over the network the file cannot be looked at
        if header_s is not None and late and header_s - stays_until_s > _tolerance_s(header_s):
            return Ending(end_s, promised_s, "no more frames came", "check the file on the server")
    elif _lacks_frames(decoding, structure, late=late):
        return Ending(end_s, promised_s, "the file is damaged")
    if header_s is not None and header_s > progress.last_ns / _NS + _ROUNDING_S:
        return Ending(header_s)
    # A duration does not belong to its frame where those are reordered.
    return Ending(end_s if coded.reordered else max(end_s, stays_until_s))


def in_context(reading: Reading, problem: Problem) -> Problem:
    """Add to an error in a file what else is known about it."""
    cause = problem.cause
    structure = reading.source.structure() if problem == UNREADABLE else None
    if structure is not None and structure.missing_bytes:
        cause = truncated(structure.missing_bytes)
    if reading.progress.decoded:
        end_s, duration_s = reading.progress.end_ns / _NS, reading.duration_s or 0.0
        whole = f" of {duration_s:.1f} s" if duration_s > end_s else ""
        cause = f"stops at {end_s:.1f} s{whole}: {cause}"
    return Problem(cause, problem.hint, "permanent")


def conclude(reading: Reading, skipped: Skipped) -> tuple[StateChange, SourceError | None]:
    """Return the last state of a source that came to its end, and the error if not all of it was read."""
    source, shown = reading.source, reading.progress.decoded
    concluded = source.conclude(shown, skipped)
    if concluded is None:
        concluded = _conclude_video(reading)
    cause, problem = concluded
    error = SourceError(problem.line(source.label), permanent=True) if problem else None
    return StateChange("ended" if shown else "failed", cause), error


def _conclude_video(reading: Reading) -> tuple[str, Problem | None]:
    source, progress = reading.source, reading.progress
    if not progress.decoded:
        problem = Problem("no frame in it could be decoded", "record or copy it again", "permanent")
        return problem.cause, problem
    end_s = progress.end_ns / _NS
    if not source.live and not source.segmented:
        ending = find(reading)
        if ending.problem is not None:
            return ending.problem.cause, ending.problem
        end_s = ending.end_s
    parts = [f"end of the {'stream' if source.live else 'file'} at {end_s:.1f} s", *_notes(progress)]
    # GStreamer passes over the last segments of a playlist without an error. A playlist may round its
    # durations: so this is a remark.
    if source.segmented and reading.duration_s is not None and reading.duration_s - end_s > _SLACK_S:
        parts.append(f"its playlist names {reading.duration_s:.1f} s")
    return "; ".join(parts), None


def _notes(progress: Progress) -> list[str]:
    """Remarks on a video that was read to its end."""
    found = [f"no frames between {start:.1f} s and {end:.1f} s" for start, end in progress.gaps[:3]]
    if len(progress.gaps) > 3:
        found.append(f"and {len(progress.gaps) - 3} more gaps")
    if progress.corrupt:
        found.append(f"{progress.corrupt} damaged frames")
    return found


def _lacks_frames(decoding: Decoding, structure: Structure, *, late: bool) -> bool:
    """True when a file's structure shows that its end was not read. ``late``: its header gives more time."""
    if decoding.demuxer == "qtdemux":
        return late and decoding.coded.count < structure.frames
    return structure.broken and (late or decoding.coded.count < structure.frames)


def truncated(missing_bytes: int) -> str:
    return f"the file is truncated ({missing_bytes} bytes are missing)"


def _header_s(reading: Reading, decoding: Decoding, structure: Structure | None) -> float | None:
    """The duration that the header gives the video; None when it gives none, or it's a guess."""
    if reading.duration_s is None or decoding.demuxer not in _SAID_IN_HEADER:
        return None
    if structure is not None and structure.fragmented:
        return None
    if decoding.demuxer == "qtdemux":
        return reading.duration_s - reading.progress.start_ns / _NS
    # Some write when the video ends, not how long it is, which differs where it does not start at 0.
    first_s, last_s = decoding.coded.first_pts_ns / _NS, decoding.coded.last_pts_ns / _NS
    return reading.duration_s - (first_s if reading.duration_s >= last_s else 0.0)


def _tolerance_s(length_s: float) -> float:
    return max(0.5, 0.02 * length_s)
