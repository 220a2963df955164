"""What a converter is: a peer's record to our annotation and back, as plain JSON values.

:mod:`benchmarks.external.formats` does everything around it: files, names, what is kept beside a record,
reports. A converter need not be exact, because what it loses is found by converting back, and kept. It
must only be a function of the record alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

from benchmarks.external.formats.notes import Notes
from benchmarks.metric.records import Item

Record = dict[str, Any]
"""A JSON object."""


class Unfit(Exception):
    """An annotation that the other format can't hold; the text says why."""


class Format(Protocol):
    """One peer's annotation format."""

    name: str
    """On the command line, and as the key under which its parts are kept in our annotations."""
    title: str
    """For people."""
    has_duration: bool
    """Whether records hold the length of the video; else it is estimated from the last time they name."""

    def read(self, path: Path, notes: Notes) -> Iterator[tuple[Item, int | None]]:
        """Records with one question each, and the number of the record they were split from, if any."""
        ...

    def decode(self, record: Item) -> Record:
        """Our annotation of a record, without what is kept beside it. Raises FormatError."""
        ...

    def kind(self, record: Item) -> str:
        """The peer's own name for the kind of question; empty when it has none."""
        ...

    def encode(self, annotation: Record) -> Record:
        """The peer's record of our annotation, without what is kept beside it. Raises Unfit."""
        ...

    def remarks(self, record: Record) -> Iterator[str]:
        """What the peer's own tools will not see or change in a record that is about to be written."""
        ...

    def merge(self, records: Iterable[tuple[Record, int | None]]) -> Iterator[Record]:
        """Put neighbours together again that were split from one record (equal numbers)."""
        ...


def dump_array(records: Iterable[Record]) -> Iterator[str]:
    """A JSON array with one indented record after the other, in parts."""
    before = "["
    for record in records:
        yield f"{before}\n{json.dumps(record, indent=2, ensure_ascii=False, allow_nan=False)}"
        before = ","
    yield "[]\n" if before == "[" else "\n]\n"


def last_time(value: Any) -> float:
    """The largest number among the times of a decoded annotation."""
    times = [value["query"]["time"], *(answer["end"] for answer in value["answers"])]
    return float(max(times))
