"""What a conversion could not carry over, counted for the person who runs it."""

from __future__ import annotations

from collections.abc import Iterator

SHOWN = 5
"""At most so many records are named per note."""


class Notes:
    """Counts records by what happened to them."""

    def __init__(self) -> None:
        self._records: dict[str, list[str]] = {}

    def add(self, what: str, record: str) -> None:
        """``what`` happened to ``record``; a record counts once per thing."""
        records = self._records.setdefault(what, [])
        if not records or records[-1] != record:
            records.append(record)

    def lines(self) -> Iterator[str]:
        """One line per thing that happened, in the order of first happening."""
        for what, records in self._records.items():
            some = ", ".join(records[:SHOWN]) + (", ..." if len(records) > SHOWN else "")
            yield f"{what}: {len(records)} record{'' if len(records) == 1 else 's'} ({some})"
