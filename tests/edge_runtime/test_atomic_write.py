"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import os
import stat

import pytest

from edge_runtime.atomic_write import replace_folder, whole_file, write_whole
from edge_runtime.errors import SinkError


def test_a_file_is_replaced_only_once_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_whole(path, ["one\n", "two\n"])
    with whole_file(path, 0o600) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "one\ntwo\n"
        temporary.write_text("whole")
    assert path.read_text() == "whole" and stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(path.parent) == ["a.json"]


def test_an_error_leaves_what_was_there_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    write_whole(path, ["old"])

    def parts():
        yield "half"
        raise KeyError("no more")

    with pytest.raises(KeyError):
        write_whole(path, parts())
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]
    with pytest.raises(SinkError, match="cannot be written"):
        write_whole(path / "b.txt", ["a file is no folder"])


def test_a_link_in_the_way_of_the_temporary_file_is_not_followed(tmp_path):
    other = tmp_path / "other"
    other.write_text("mine")
    (tmp_path / f".a.txt.{os.getpid()}.tmp").symlink_to(other)
    with pytest.raises(SinkError):
        write_whole(tmp_path / "a.txt", ["x"])
    assert other.read_text() == "mine"


def test_a_folder_takes_the_place_of_another(tmp_path):
    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
    replace_folder(tmp_path / "new", tmp_path / "old")
    assert os.listdir(tmp_path) == ["old"] and os.listdir(tmp_path / "old") == ["new"]
    replace_folder(tmp_path / "old", tmp_path / "first")
    assert os.listdir(tmp_path / "first") == ["new"]
