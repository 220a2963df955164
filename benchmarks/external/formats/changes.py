"""What one JSON value has that another has not, as a list of small changes that can be put back.

Converting drops nothing that it can avoid to drop: the part of a record that the other format has no place
for is kept beside it as changes, under :data:`OURS` in a peer's record and under the peer's name in ours.
A change is ``{"at": [key or index, ...], "was": old, "is": new}``; without "was" something is added,
without "is" removed. It is applied only where the value still is what it "was", so that an edit made after
converting wins over what was kept. ``apply_changes(plain, find_changes(plain, actual))`` gives ``actual``.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.metric.records import Item

OURS = "streampro"
"""Key of a peer's record under which parts of our annotation are kept."""

Change = dict[str, Any]


def find_changes(plain: Any, actual: Any, at: Sequence[str | int] = ()) -> list[Change]:
    """Changes that turn ``plain`` into ``actual``; numbers of equal value are equal."""
    return list(_changes(plain, actual, list(at)))


def apply_changes(plain: Any, changes: Sequence[Change]) -> tuple[Any, list[Change]]:
    """A changed copy, and the changes that no longer fit."""
    value = {"": copy.deepcopy(plain)}  # so that the whole value, at [], has a parent too
    stale = [change for change in changes if not _apply(value, ["", *change["at"]], change)]
    return value[""], stale


def changed_value(changes: object, at: Sequence[str | int]) -> Any:
    """What the kept ``changes`` of a record make of one value; None when they leave it alone."""
    for change in changes if isinstance(changes, list) else ():
        if isinstance(change, dict) and change.get("at") == list(at):
            return change.get("is")
    return None


def kept_changes(item: Item, key: str) -> list[Change]:
    """The changes a record keeps under ``key``. Raises FormatError when they are none."""
    if key not in item:
        return []
    changes = item.items(key)
    for change in changes:
        steps = change.array("at")
        if not all(isinstance(step, str | int) and not isinstance(step, bool) for step in steps):
            change.fail("at", "a list of keys and indices")
        if "was" not in change and "is" not in change:
            change.fail("is", "a value, or one of 'was'")
    return [change.value for change in changes]


def same(left: Any, right: Any) -> bool:
    """Equal as JSON values: 1 and 1.0 are, 1 and true are not."""
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(same(a, b) for a, b in zip(left, right, strict=True))
    return isinstance(left, bool) == isinstance(right, bool) and bool(left == right)


def _changes(plain: Any, actual: Any, at: list[str | int]) -> Iterator[Change]:
    if isinstance(plain, dict) and isinstance(actual, dict):
        for key in plain.keys() - actual.keys():
            yield {"at": [*at, key], "was": plain[key]}
        for key, value in actual.items():
            if key in plain:
                yield from _changes(plain[key], value, [*at, key])
            else:
                yield {"at": [*at, key], "is": value}
    elif isinstance(plain, list) and isinstance(actual, list):
        for index in range(len(plain) - 1, len(actual) - 1, -1):
            yield {"at": [*at, index], "was": plain[index]}
        for index, value in enumerate(actual):
            if index < len(plain):
                yield from _changes(plain[index], value, [*at, index])
            else:
                yield {"at": [*at, index], "is": value}
    elif not same(plain, actual):
        yield {"at": at, "was": plain, "is": actual}


def _apply(value: Any, at: Sequence[str | int], change: Change) -> bool:
    """Apply one change in place; False when the value is no longer what it was."""
    for step in at[:-1]:
        if not _has(value, step):
            return False
        value = value[step]
    step = at[-1]
    if "was" not in change:
        if isinstance(value, dict) and isinstance(step, str) and step not in value:
            value[step] = copy.deepcopy(change["is"])
        elif isinstance(value, list) and step == len(value):
            value.append(copy.deepcopy(change["is"]))
        else:
            return False
        return True
    if not _has(value, step) or not same(value[step], change["was"]):
        return False
    if "is" in change:
        value[step] = copy.deepcopy(change["is"])
        return True
    if isinstance(value, list) and step != len(value) - 1:
        return False  # only the end of a list is ever removed: in the middle others would move
    del value[step]
    return True


def _has(value: Any, step: str | int) -> bool:
    if isinstance(value, dict):
        return isinstance(step, str) and step in value
    return isinstance(value, list) and isinstance(step, int) and 0 <= step < len(value)
