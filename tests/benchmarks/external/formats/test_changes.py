"""Changes between JSON values: they lead from one to the other, and leave edits alone."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.external.formats.changes import apply_changes, changed_value, find_changes, same

values = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(-2, 2) | st.text("ab", max_size=2),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=300)
@given(values, values)
def test_changes_lead_from_one_to_the_other(plain: Any, actual: Any) -> None:
    changed, stale = apply_changes(plain, find_changes(plain, actual))
    assert same(changed, actual)
    assert not stale


@given(values)
def test_nothing_changes_nothing(value: Any) -> None:
    assert find_changes(value, value) == []


def test_edits_win_over_changes() -> None:
    changes = find_changes({"a": 1, "b": [1, 2, 3]}, {"a": 2, "b": [1, 5], "c": 9})
    edited, stale = apply_changes({"a": 7, "b": [1, 2, 3, 4]}, changes)
    assert edited == {"a": 7, "b": [1, 5, 3, 4], "c": 9}
    assert [change["at"] for change in stale] == [["a"], ["b", 2]]


@pytest.mark.parametrize("at", [["x", "y"], [0], ["b", "0"], ["b", -1], ["b", 9]])
def test_changes_that_point_nowhere_are_stale(at: list[str | int]) -> None:
    changes = [{"at": at, "was": 1, "is": 2}, {"at": [*at, 0], "is": 2}]
    value, stale = apply_changes({"b": [1]}, changes)
    assert value == {"b": [1]}
    assert stale == changes


def test_numbers_are_equal_by_value_and_booleans_are_none() -> None:
    assert same([1, {"a": 2.0}], [1.0, {"a": 2}])
    assert not same(True, 1)


def test_value_of_a_change() -> None:
    assert changed_value([{"at": ["task"], "is": "EU"}, {"at": ["id"], "was": "a", "is": "b"}], ["id"]) == "b"
    assert changed_value([], ["id"]) is changed_value(None, ["id"]) is changed_value("x", ["id"]) is None
