"""Sinks against real files, pipes, full disks and readers that go away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.sinks import FileSink, LineSink, Sinks
from edge_runtime.sinks import stdout as lines


def event(number: int) -> dict:
    return {"type": "response", "id": str(number), "text": "x" * 50}


def ids(path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_events_are_appended_line_by_line(tmp_path, nothing_logged):
    path = tmp_path / "events.jsonl"
    for start in (0, 2):
        sink = FileSink(path)
        assert sink.write(event(start)) and ids(path)[-1] == str(start)  # there before close
        assert sink.write(event(start + 1))
        assert sink.close() == 0
    assert ids(path) == ["0", "1", "2", "3"]


def test_a_line_cut_off_by_an_earlier_crash_is_not_continued(tmp_path, nothing_logged):
    path = tmp_path / "events.jsonl"
    path.write_text('{"type": "resp')
    sink = FileSink(path)
    sink.write(event(1))
    sink.close()
    assert path.read_text().splitlines()[0] == '{"type": "resp'
    assert json.loads(path.read_text().splitlines()[1])["id"] == "1"


def test_a_folder_that_is_not_there_is_an_error_before_the_run(tmp_path):
    with pytest.raises(SinkError, match=r"none/events.jsonl: No such file .*--events"):
        FileSink(tmp_path / "none" / "events.jsonl")
    with pytest.raises(SinkError, match="Is a directory"):
        FileSink(tmp_path)


def test_a_named_pipe_without_a_reader_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SinkError, match="nobody reads"):
        FileSink(tmp_path / "pipe")


def test_a_full_device_is_logged_once_and_counted(logged):
    sink = FileSink("/dev/full")
    assert [sink.write(event(n)) for n in range(5)] == [False] * 5
    assert sink.close() == 5
    assert len(logged) == 1 and "/dev/full: No space left on device" in logged[0]


def test_no_more_than_the_backlog_is_kept(monkeypatch):
    monkeypatch.setattr(lines, "BACKLOG_LINES", 3)
    sink = FileSink("/dev/full")
    for number in range(10):
        sink.write(event(number))
    assert len(sink._waiting) == 3
    assert sink.close() == 10


# A size limit makes write() fall short and then fail exactly as a full disk does, without needing one.
LIMITED = """
import json, resource, sys
from edge_runtime.sinks import FileSink
sink = FileSink(sys.argv[1])
event = lambda n: {"type": "response", "id": str(n), "text": "x" * 50}
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (250, hard))
outcomes = [sink.write(event(n)) for n in range(6)]
torn = open(sys.argv[1]).read()
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
outcomes.append(sink.write(event(6)))
print(json.dumps({"outcomes": outcomes, "torn": torn, "lost": sink.close()}))
"""


def test_when_there_is_room_again_nothing_is_lost_and_no_line_is_torn(tmp_path):
    path = tmp_path / "events.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=30, check=True
    )
    result = json.loads(done.stdout)
    assert result["outcomes"] == [True, True, False, False, False, False, True]
    assert result["torn"].endswith("\n")  # the part that did fit was taken back
    assert result["lost"] == 0
    assert ids(path) == [str(n) for n in range(7)]
    failed, again = done.stderr.splitlines()
    assert "File too large" in failed and "can be written again, 5 events written late" in again


def test_a_reader_of_a_named_pipe_that_goes_away_is_a_failure_of_that_sink_alone(tmp_path, logged):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    sink = FileSink(pipe)
    assert sink.write(event(1))
    os.close(reader)
    assert not sink.write(event(2))
    assert sink.close() == 1
    assert len(logged) == 1 and "Broken pipe" in logged[0]


def test_a_slow_reader_of_a_non_blocking_pipe_gets_everything(nothing_logged):
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    sink = LineSink(writing, "pipe")
    got = bytearray()

    def read() -> None:
        while data := os.read(reading, 4096):
            got.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(3000):
        assert sink.write(event(number))
    sink.close()
    os.close(writing)
    reader.join()
    os.close(reading)
    assert [json.loads(line)["id"] for line in got.splitlines()] == [str(n) for n in range(3000)]


STDOUT = """
import sys
from edge_runtime.sinks import ReaderGoneError, StdoutSink
sink = StdoutSink()
for number in range(100000):
    try:
        sink.write({"id": number})
    except ReaderGoneError:
        print("gone", file=sys.stderr)
        break
try:
    sink.write({"id": number})
except ReaderGoneError:
    print("still gone", file=sys.stderr)
"""


def test_stdout_whose_reader_leaves():
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" | head -1', sys.executable, STDOUT],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stdout == '{"id": 0}\n'
    assert done.stderr == "gone\nstill gone\n"


def test_a_closed_stdout_is_an_error_before_the_run():
    done = subprocess.run(
        ["bash", "-c", '"$0" -c "$1" >&-', sys.executable, STDOUT], capture_output=True, text=True, timeout=30
    )
    assert "SinkError: stdout is closed" in done.stderr


def test_one_sink_that_fails_does_not_keep_events_from_another(tmp_path, logged):
    path = tmp_path / "events.jsonl"
    both = Sinks([FileSink("/dev/full"), FileSink(path)])
    assert both.write(event(1))
    assert both.close() == {"/dev/full": 1}
    assert len(logged) == 1 and "/dev/full" in logged[0]
    assert ids(path) == ["1"]
