"""The folder of evidence: whole files alone, and exactly what the limits keep."""

from __future__ import annotations

import os
import time

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.events.evidence_config import Retention
from edge_runtime.events.evidence_store import EvidenceStore, file_stem

T0 = 1_700_000_000.0


def event_id(number: int) -> str:
    return f"{number:026d}"


class Clock:
    def __init__(self) -> None:
        self.time = T0

    def __call__(self) -> float:
        return self.time


def write(store: EvidenceStore, number: int, ending: str = ".jpg", size: int = 100, at: float = T0) -> bool:
    return store.write(event_id(number), ending, at + number, lambda path: path.write_bytes(b"x" * size))


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_count_keeps_the_newest_events_each_with_all_its_files(tmp_path):
    store = EvidenceStore(tmp_path, Retention(max_events=3))
    for number in range(5):
        assert write(store, number)
        assert write(store, number, ".mp4")
        assert len({name[:26] for name in names(tmp_path)}) <= 3
    assert names(tmp_path) == {f"{event_id(n)}{ending}" for n in (2, 3, 4) for ending in (".jpg", ".mp4")}


def test_bytes_are_never_exceeded_by_files_under_their_names(tmp_path):
    store = EvidenceStore(tmp_path, Retention(max_bytes=1000))
    for number in range(20):
        assert write(store, number, size=300)
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1000
    assert names(tmp_path) == {f"{event_id(n)}.jpg" for n in (17, 18, 19)}
    assert not write(store, 20, size=1001), "a file larger than the limit is not kept"
    assert names(tmp_path) <= {f"{event_id(n)}.jpg" for n in (17, 18, 19)}


def test_age_counts_from_the_event(tmp_path):
    clock = Clock()
    store = EvidenceStore(tmp_path, Retention(max_age_s=60.0), clock)
    write(store, 0)
    write(store, 30)
    clock.time = T0 + 60.0
    store.tidy()
    assert len(names(tmp_path)) == 2
    clock.time = T0 + 60.5
    store.tidy()
    assert names(tmp_path) == {f"{event_id(30)}.jpg"}
    assert not write(store, 0, ".mp4"), "a clip of an event that is too old by then"
    assert names(tmp_path) == {f"{event_id(30)}.jpg"}


def test_files_of_earlier_runs_count_at_the_start_and_other_files_are_left_alone(tmp_path):
    write(EvidenceStore(tmp_path, Retention()), 1)
    write(EvidenceStore(tmp_path, Retention()), 2)
    others = ["holiday.jpg", "film.mp4", f"{event_id(1)}.txt", f"{event_id(1)[:-1]}.jpg", "I" * 26 + ".jpg"]
    for name in others:
        (tmp_path / name).write_bytes(b"y" * 5000)
        os.utime(tmp_path / name, (1, 1))
    EvidenceStore(tmp_path, Retention(max_events=1, max_bytes=150))
    assert names(tmp_path) == {*others, f"{event_id(2)}.jpg"}


def test_a_clip_of_an_event_that_was_deleted_does_not_come_back(tmp_path):
    store = EvidenceStore(tmp_path, Retention(max_events=2))
    for number in (1, 2, 3):
        write(store, number)
    assert not write(store, 1, ".mp4")
    assert names(tmp_path) == {f"{event_id(n)}.jpg" for n in (2, 3)}


def test_the_same_event_again_replaces_its_file(tmp_path):
    store = EvidenceStore(tmp_path, Retention(max_bytes=150))
    assert write(store, 1) and write(store, 1)
    assert names(tmp_path) == {f"{event_id(1)}.jpg"}


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    store = EvidenceStore(tmp_path, Retention())

    def fail(path):
        path.write_bytes(b"half")
        assert not any(name.endswith(".mp4") for name in names(tmp_path))
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError):
        store.write(event_id(1), ".mp4", T0, fail)
    assert names(tmp_path) == set()


def test_what_a_killed_run_left_is_deleted_once_nobody_writes_it(tmp_path):
    for name in (f".{event_id(1)}.mp4.77.tmp", f".{event_id(1)}.mp4.77.tmp.moov", ".notes.tmp"):
        (tmp_path / name).write_bytes(b"half")
        os.utime(tmp_path / name, (time.time() - 7200, time.time() - 7200))
    (tmp_path / f".{event_id(2)}.mp4.78.tmp").write_bytes(b"being written")
    EvidenceStore(tmp_path, Retention())
    assert names(tmp_path) == {".notes.tmp", f".{event_id(2)}.mp4.78.tmp"}


@pytest.mark.parametrize("hostile", ["../../etc/passwd", "a/b", "", "x" * 500, "CON", "\ud800", "ab\0c"])
def test_any_id_makes_a_safe_name(hostile):
    stem = file_stem(hostile)
    assert len(stem) == 26 and stem.isalnum() and stem == file_stem(hostile)
    assert file_stem(event_id(7)) == event_id(7)


def test_a_folder_that_cannot_be_used_is_refused_with_a_next_step(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match="give --evidence another folder"):
        EvidenceStore(tmp_path / "file" / "inside", Retention())
