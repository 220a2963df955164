"""The file of events: rotation by size and age, files moved away by others, a disk that is really full."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.sinks import FileSink, Rotation

ROOT = Path(__file__).resolve().parents[3]


def event(number: int) -> dict:
    return {"type": "response", "id": str(number), "text": "x" * 50}


LINE = len(json.dumps(event(10))) + 1


def ids(*paths: Path) -> list[str]:
    return [json.loads(line)["id"] for path in paths for line in path.read_text().splitlines()]


def files(path: Path) -> list[Path]:
    """Oldest first."""
    aside = sorted(path.parent.glob(f"{path.name}.*"), key=lambda one: -int(one.suffix[1:]))
    return [*aside, path]


def test_rotated_by_size_every_event_is_in_one_file_in_its_order(tmp_path, nothing_logged):
    path = tmp_path / "events.jsonl"
    sink = FileSink(path, Rotation(max_bytes=3 * LINE, keep=100))
    assert all(sink.write(event(number)) for number in range(10))
    assert sink.close() == 0 and sink.rotations == 3
    assert [len(ids(one)) for one in files(path)] == [3, 3, 3, 1]
    assert ids(*files(path)) == [str(number) for number in range(10)]
    again = FileSink(path, Rotation(max_bytes=3 * LINE, keep=100))  # counts what is there
    for number in range(10, 13):
        again.write(event(number))
    again.close()
    assert [len(ids(one)) for one in files(path)] == [3, 3, 3, 3, 1]


def test_only_so_many_are_kept(tmp_path, nothing_logged):
    path = tmp_path / "events.jsonl"
    sink = FileSink(path, Rotation(max_bytes=1, keep=2))
    for number in range(6):
        sink.write(event(number))
    sink.close()
    assert [one.name for one in files(path)] == ["events.jsonl.2", "events.jsonl.1", "events.jsonl"]
    assert ids(*files(path)) == ["3", "4", "5"]


def test_rotated_by_age_of_the_first_event_also_over_restarts(tmp_path, nothing_logged):
    path, now = tmp_path / "events.jsonl", [1_700_000_000.0]
    stamp = "2023-11-14T22:13:20.000Z"  # that moment
    rotation = Rotation(max_age_s=3600.0)

    def sink() -> FileSink:
        return FileSink(path, rotation, now=lambda: now[0])

    first = sink()
    first.write({**event(0), "wall_time": stamp})
    first.close()
    now[0] += 3599
    second = sink()
    second.write(event(1))
    assert second.rotations == 0
    now[0] += 1
    second.write(event(2))
    second.close()
    assert second.rotations == 1 and ids(*files(path)) == ["0", "1", "2"] and ids(path) == ["2"]


@pytest.mark.parametrize("recreate", [True, False])
def test_a_file_moved_away_by_someone_else_is_opened_anew(tmp_path, recreate, nothing_logged):
    """As logrotate does, with `create` and without; no signal is needed."""
    path = tmp_path / "events.jsonl"
    sink = FileSink(path)
    sink.write(event(0))
    path.rename(tmp_path / "events.jsonl.1")
    if recreate:
        path.touch(mode=0o640)
    sink.write(event(1))
    path.unlink()
    sink.write(event(2))
    sink.close()
    assert ids(tmp_path / "events.jsonl.1", path) == ["0", "2"]


def test_a_link_stays_and_its_file_is_rotated(tmp_path, nothing_logged):
    (tmp_path / "disk").mkdir()
    path = tmp_path / "events.jsonl"
    path.symlink_to(tmp_path / "disk" / "log")
    sink = FileSink(path, Rotation(max_bytes=1))
    sink.write(event(0))
    sink.write(event(1))
    sink.close()
    assert path.is_symlink() and ids(tmp_path / "disk" / "log.1", path) == ["0", "1"]


def test_a_file_that_cannot_be_rotated_is_written_on(tmp_path, logged):
    path = tmp_path / "events.jsonl"
    (tmp_path / "events.jsonl.1" / "in the way").mkdir(parents=True)
    sink = FileSink(path, Rotation(max_bytes=1, keep=1))
    assert all(sink.write(event(number)) for number in range(4))
    assert ids(path) == ["0", "1", "2", "3"]
    assert len(logged) == 1 and "cannot rotate" in logged[0] and "go on into the same file" in logged[0]
    shutil.rmtree(tmp_path / "events.jsonl.1")
    sink.write(event(4))
    sink.close()
    assert ids(path) == ["4"] and ids(tmp_path / "events.jsonl.1") == ["0", "1", "2", "3"]


WRITER = """
import logging, sys
from edge_runtime.sinks import FileSink, Rotation
log = logging.Handler()
log.emit = lambda record: sys.exit(record.getMessage())
logging.getLogger("edge_runtime").addHandler(log)
sink = FileSink(sys.argv[1], Rotation(max_bytes=2000, keep=1000))
for number in range(500):
    assert sink.write({"id": f"{sys.argv[2]}-{number}", "text": "x" * 50})
assert sink.close() == 0
"""


def test_several_processes_may_write_and_rotate_one_file(tmp_path):
    path = tmp_path / "events.jsonl"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), name], cwd=ROOT) for name in ("a", "b")
    ]
    assert [writer.wait(60) for writer in writers] == [0, 0]
    assert sorted(ids(*files(path))) == sorted(f"{name}-{n}" for name in "ab" for n in range(500))


# A tmpfs of its own in a namespace of its own: really full, and gone with the process.
FULL_DISK = """
import json, logging, os, sys, threading
from edge_runtime.sinks.outbox import Outbox
from edge_runtime.sinks import FileSink, Rotation
from edge_runtime.sinks.remote import RemoteSink

disk, said = sys.argv[1], []
log = logging.Handler()
log.emit = lambda record: said.append(record.getMessage())
logging.getLogger("edge_runtime").addHandler(log)

class Receiver:
    name, got, open = "receiver", [], threading.Event()
    def send(self, record):
        self.open.wait(30)
        self.got.append(record.id)
    def close(self): ...

file = FileSink(disk + "/events.jsonl", Rotation(max_bytes=4000, keep=100))
remote = RemoteSink(Outbox(disk + "/outbox.sqlite"), Receiver(), ["response"])
event = lambda n: {"type": "response", "id": str(n), "stream": "s", "text": "x" * 500}

def write(numbers):
    return [(file.write(event(n)), remote.write(event(n))) for n in numbers]

before = write(range(20))
with open(disk + "/filler", "wb", buffering=0) as filler:
    try:
        while filler.write(b"x" * 4096): ...
    except OSError as err:
        full = err.errno
during = write(range(20, 120))
counts = [file.counts(), remote.counts()]
said_by_then = len(said)
os.unlink(disk + "/filler")
after = write(range(120, 140))
Receiver.open.set()
lost = [file.close(), remote.close()]
number = lambda name: int((name + ".0").split(".")[2])
names = sorted((name for name in os.listdir(disk) if name.startswith("events")), key=number, reverse=True)
lines = [line for name in names for line in open(disk + "/" + name)]
print(json.dumps({"full": full, "before": before, "during": during, "after": after, "counts": counts,
                  "said": said, "said_by_then": said_by_then, "lost": lost,
                  "ids": [json.loads(line)["id"] for line in lines], "got": Receiver.got}))
"""


def test_a_full_disk_is_said_once_and_nothing_is_lost_when_there_is_room_again(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    inside = ["sh", "-c", 'mount -t tmpfs -o size=8m tmpfs "$1" && exec "$2" -c "$3" "$1"', "sh"]
    done = subprocess.run(
        ["unshare", "-rm", *inside, str(tmp_path), sys.executable, FULL_DISK],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["full"] == 28
    assert all(all(pair) for pair in result["before"] + result["after"])
    assert not any(result["during"][-1])
    assert all(count["waiting"] > 0 and count["lost"] == 0 for count in result["counts"])
    everything = [str(number) for number in range(140)]
    assert result["ids"] == everything and result["got"] == everything and result["lost"] == [0, 0]
    assert result["said_by_then"] == 2, result["said"]  # once for each
    assert len(result["said"]) == 4 and all("again" in text for text in result["said"][2:]), result["said"]
