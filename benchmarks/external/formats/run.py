"""Convert a file of annotations: translate what fits, keep the rest beside it, count what is dropped.

To ours, a record becomes an annotation; what that says differently or not at all is kept under the peer's
name in the annotation. From ours, what a peer's record can't say is kept under "streampro" in the record.
So there and back gives the same JSON values, either way round (see
:mod:`benchmarks.external.formats.changes`), as long as nothing was dropped and no option changed the
annotation on the way. Kept parts override neither edits made in between nor each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.external.formats.changes import OURS, apply_changes, find_changes, kept_changes
from benchmarks.external.formats.common import Format, Record, Unfit, dump_array, last_time
from benchmarks.external.formats.notes import Notes
from benchmarks.external.formats.ovo_bench import OVOBench
from benchmarks.external.formats.proactivevideoqa import ProactiveVideoQA
from benchmarks.external.formats.streamingbench import StreamingBench
from benchmarks.external.formats.streamo import Streamo
from benchmarks.external.records import read_object
from benchmarks.external.streamingbench import Names
from benchmarks.metric.annotations import FormatError, dump_line, read_annotations
from benchmarks.metric.records import Item, Place
from benchmarks.metric.tasks import TASKS
from edge_runtime.atomic_write import write_whole
from edge_runtime.errors import ConfigError

FORMATS: dict[str, Format] = {
    each.name: each for each in (Streamo(), ProactiveVideoQA(), OVOBench(), StreamingBench())
}
"""Peers' formats by the name the command line takes."""


@dataclass(frozen=True)
class Options:
    """What the peer's records do not say. ``tasks``: our task by the peer's kind, "" for all others."""

    tasks: Mapping[str, str] = field(default_factory=dict)
    durations: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Outcome:
    """How many records came in and went out, and what is to be said about them."""

    read: int
    written: int
    notes: Notes


def convert(source: str, target: str, path: Path, out: Path, options: Options | None = None) -> Outcome:
    """Convert ``path`` of the format ``source`` to ``out`` of the format ``target``; one of them is ours.

    Raises FormatError for a file that is not of its format, ConfigError for a request that makes no
    sense, SinkError when ``out`` cannot be written.
    """
    if (source == OURS) == (target == OURS):
        raise ConfigError(f"{source} to {target}: one of the two must be {OURS}; convert in two steps")
    if out.exists() and path.exists() and out.samefile(path):
        raise ConfigError(f"{out}: is the file to be read; choose another OUT")
    if target == OURS:
        return _to_ours(FORMATS[source], path, out, options or Options())
    return _from_ours(FORMATS[target], path, out)


def read_durations(path: Path) -> dict[str, float]:
    """{video: seconds}, the video as annotated or its file name alone. Raises FormatError."""
    durations = read_object(path)
    return {video: durations.seconds(video) for video in durations.value}


def _to_ours(form: Format, path: Path, out: Path, options: Options) -> Outcome:
    notes, names = Notes(), Names()
    found: list[tuple[Item, int | None]] = []
    annotations: list[Record] = []
    for item, group in form.read(path, notes):
        plain = _decode(form, item, names)
        changes = kept_changes(item, OURS)
        annotation, stale = apply_changes(plain, changes)
        if stale:
            notes.add(f"kept parts that no longer fit were left out (key {OURS!r})", item.place.short)
        fixed = {change["at"][0] for change in changes if change["at"]}
        _complete(form, item, annotation, fixed, options, notes)
        found.append((item, group))
        annotations.append(annotation)
    _check(path, annotations)
    for annotation, (item, group) in zip(annotations, found, strict=True):
        record = {key: value for key, value in item.value.items() if key != OURS}
        left = find_changes(_encode(form, annotation), record)
        if left or group is not None:
            annotation[form.name] = {"changes": left} | ({} if group is None else {"group": group})
    write_whole(out, map(dump_line, annotations))
    return Outcome(len(annotations), len(annotations), notes)


def _from_ours(form: Format, path: Path, out: Path) -> Outcome:
    notes, names = Notes(), Names()
    annotations = read_annotations(path)
    records: list[tuple[Record, int | None]] = []
    for annotation in annotations:
        place = Place(path, "line", annotation.line)
        plain = annotation.to_dict()
        kept = Item(place, "", {form.name: plain.pop(form.name, {})}).child(form.name)
        changes = kept_changes(kept, "changes")
        record, stale = apply_changes(_encode(form, plain), changes)
        if record is None:
            notes.add(f"dropped, {form.title} has no form for it: {_unfit(form, plain)}", annotation.id)
            continue
        if stale:
            notes.add(
                f"edited since it came from {form.title}: what was kept there was left out", annotation.id
            )
        ours = find_changes(_decode(form, Item(place, "", record), names), plain)
        if ours:
            record[OURS] = ours
        for key in dict.fromkeys(change["at"][0] for change in ours):
            notes.add(
                f"kept under {OURS!r}, which {form.title}'s own tools do not read: {key}", annotation.id
            )
        for remark in form.remarks(record):
            notes.add(remark, annotation.id)
        group = kept.integer("group") if "group" in kept and not ours else None
        records.append((record, group))
    write_whole(out, dump_array(form.merge(records)))
    return Outcome(len(annotations), len(records), notes)


def _decode(form: Format, item: Item, names: Names) -> Record:
    """A record as an annotation with a name of its own and a length, as far as the record alone says."""
    plain = form.decode(item)
    plain["id"] = names.unique(plain["id"])
    if not form.has_duration:
        plain["duration"] = last_time(plain) or 1.0
    return plain


def _encode(form: Format, annotation: Record) -> Record | None:
    try:
        return form.encode(annotation)
    except Unfit:
        return None


def _unfit(form: Format, annotation: Record) -> str:
    try:
        form.encode(annotation)
    except Unfit as reason:
        return str(reason)
    return "no reason"


def _complete(
    form: Format, item: Item, annotation: Record, fixed: set[str | int], options: Options, notes: Notes
) -> None:
    """Put in what the record does not say and nobody kept: task and length."""
    if "task" not in fixed:
        kind = form.kind(item)
        default = (
            annotation["task"] if kind == annotation["task"] else options.tasks.get("", annotation["task"])
        )
        annotation["task"] = options.tasks.get(kind, default) if kind else default
        if annotation["task"] not in TASKS:
            raise ConfigError(f"task {annotation['task']!r} is not known; choose one of {', '.join(TASKS)}")
        if kind != annotation["task"]:
            called = f"{kind!r}" if kind else "without a kind"
            notes.add(f"{form.title} {called} became {annotation['task']}", item.place.short)
    if not form.has_duration and "duration" not in fixed:
        video = annotation["video"]
        duration = options.durations.get(video, options.durations.get(Path(video).name))
        if duration:
            annotation["duration"] = duration
        else:
            notes.add(
                "length of the video guessed: the last time of the record (see --durations)", item.place.short
            )


def _check(path: Path, annotations: list[Record]) -> None:
    """Raise FormatError unless these are annotations: an edited "streampro" may hold anything."""
    with TemporaryDirectory() as folder:
        draft = Path(folder, "annotations.jsonl")
        write_whole(draft, map(dump_line, annotations))
        try:
            read_annotations(draft)
        except FormatError as error:
            raise FormatError(str(error).replace(str(draft), f"{path} as converted")) from error
