"""The outbox: order, bounds, crashes, full disks; the sender's pauses by a clock that is told when to go."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from edge_runtime.errors import SinkError
from edge_runtime.sinks import remote
from edge_runtime.sinks.outbox import Outbox, OutboxError, OutboxRecord
from edge_runtime.sinks.remote import Backoff, PermanentError, RemoteSink, RetryableError, Sender


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Receiver:
    """Takes events unless told to fail; the network's part alone."""

    name = "receiver"

    def __init__(self) -> None:
        self.got: list[str] = []
        self.errors: list[Exception] = []
        self.attempts = 0

    def send(self, record: OutboxRecord) -> None:
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        self.got.append(record.id)

    def close(self) -> None: ...


def event(number: int, size: int = 10) -> dict:
    return {"type": "response", "id": f"id{number}", "stream": "door", "text": "x" * size}


def put(outbox: Outbox, *numbers: int, size: int = 10) -> None:
    for number in numbers:
        outbox.put(f"id{number}", "door", "response", b"x" * size)


def drain(outbox: Outbox) -> list[str]:
    ids = []
    while (record := outbox.first()) is not None:
        ids.append(record.id)
        outbox.done(record.number)
    return ids


def test_events_leave_in_the_order_they_came_also_in_a_later_process(tmp_path):
    outbox = Outbox(tmp_path / "box.sqlite")
    put(outbox, 1, 2, 3)
    assert outbox.depth() == 3
    outbox.done(outbox.first().number)
    outbox.close()
    again = Outbox(tmp_path / "box.sqlite")
    put(again, 4)
    assert drain(again) == ["id2", "id3", "id4"]
    assert os.stat(tmp_path / "box.sqlite").st_mode & 0o077 == 0


def test_an_id_that_waits_is_not_written_twice(tmp_path):
    outbox = Outbox(tmp_path / "box.sqlite")
    put(outbox, 1, 1, 2)
    assert drain(outbox) == ["id1", "id2"]


def test_too_much_drops_the_oldest_and_counts(tmp_path):
    outbox = Outbox(tmp_path / "box.sqlite", max_bytes=400_000)
    put(outbox, *range(600), size=1000)
    kept = drain(outbox)
    assert kept == [f"id{n}" for n in range(600 - len(kept), 600)]
    assert 200 < len(kept) < 400 and outbox.dropped == 600 - len(kept)
    assert (tmp_path / "box.sqlite").stat().st_size < 500_000


def test_too_old_drops_the_oldest_and_counts(tmp_path):
    clock = Clock()
    outbox = Outbox(tmp_path / "box.sqlite", max_age_s=60, now=clock)
    put(outbox, 1)
    clock.now += 59
    put(outbox, 2)
    assert outbox.depth() == 2
    clock.now += 2
    put(outbox, 3)
    assert drain(outbox) == ["id2", "id3"] and outbox.dropped == 1


def test_one_process_sends_and_the_next_takes_over(tmp_path):
    first, second = Outbox(tmp_path / "box.sqlite"), Outbox(tmp_path / "box.sqlite")
    assert first.may_send() and first.may_send() and not second.may_send()
    first.close()
    assert second.may_send()


def test_a_damaged_file_is_put_aside(tmp_path, logged):
    path = tmp_path / "box.sqlite"
    path.write_bytes(os.urandom(20_000))
    outbox = Outbox(path)
    put(outbox, 1)
    assert drain(outbox) == ["id1"]
    assert len(logged) == 1 and "damaged" in logged[0] and (tmp_path / "box.sqlite.damaged").exists()


def test_a_folder_that_cannot_be_made_is_an_error_before_the_run(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SinkError, match=r"runtime\.outbox"):
        Outbox(tmp_path / "file" / "box.sqlite")


WRITER = """
import sys
from edge_runtime.sinks.outbox import Outbox
outbox = Outbox(sys.argv[1])
for number in range(100000):
    outbox.put(f"id{number}", "door", "response", b"x" * 100)
    print(number, flush=True)
"""


def test_sigkill_loses_nothing_that_was_put(tmp_path):
    path = tmp_path / "box.sqlite"
    process = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(50):
        process.stdout.readline()
    process.send_signal(signal.SIGKILL)
    told = 50 + len([line for line in process.stdout.read().splitlines() if line])
    process.wait()
    kept = drain(Outbox(path))
    assert kept == [f"id{n}" for n in range(len(kept))]
    assert len(kept) in (told - 1, told, told + 1) and len(kept) >= 50


# A size limit makes writes fail as a full disk does, without needing one.
FULL = """
import json, logging, resource, sys, time
from edge_runtime.sinks.outbox import Outbox, OutboxRecord
from edge_runtime.sinks.remote import RemoteSink, RetryableError

class Down:
    name = "receiver"
    up = False
    got = []
    def send(self, record):
        if not self.up:
            raise RetryableError("down")
        self.got.append(record.id)
    def close(self): ...

said = []
log = logging.Handler()
log.emit = lambda record: said.append(record.getMessage())
logging.getLogger("edge_runtime").addHandler(log)
down = Down()
sink = RemoteSink(Outbox(sys.argv[1]), down, ["response"])
sink.sender._backoff._first_s = 0.05
event = lambda n: {"type": "response", "id": f"id{n}", "stream": "door", "text": "x" * 1000}
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
before = [sink.write(event(n)) for n in range(5)]
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
during = [sink.write(event(n)) for n in range(5, 55)]
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
after = [sink.write(event(n)) for n in range(55, 60)]
down.up = True
until = time.monotonic() + 20
while len(down.got) < 60 and time.monotonic() < until:
    time.sleep(0.05)
lost = sink.close()
result = {"before": before, "during": during, "after": after}
print(json.dumps({**result, "said": said, "got": down.got, "lost": lost}))
"""


def test_a_full_disk_is_said_once_and_ends_when_there_is_room(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path / "box.sqlite"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert all(result["before"]) and not any(result["during"][-20:]) and all(result["after"])
    assert result["got"] == [f"id{n}" for n in range(60)] and result["lost"] == 0
    assert sum("cannot write the outbox" in line for line in result["said"]) == 1
    assert sum("can be written again" in line for line in result["said"]) == 1


# ---------------------------------------------------------------- sending


def sender(tmp_path, receiver: Receiver, clock: Clock) -> tuple[Outbox, Sender]:
    outbox = Outbox(tmp_path / "box.sqlite")
    return outbox, Sender(outbox, receiver, backoff=Backoff(1, 60, chance=lambda: 1.0), clock=clock)


def test_pauses_double_to_their_limit_and_start_anew_after_success(tmp_path, logged):
    clock, receiver = Clock(), Receiver()
    outbox, sending = sender(tmp_path, receiver, clock)
    put(outbox, 1, 2)
    receiver.errors = [RetryableError("down") for _ in range(9)]
    pauses = []
    while receiver.errors:
        pauses.append(sending.step())
        clock.now += pauses[-1]
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(logged) == 1 and "receiver: down" in logged[0]
    assert sending.step() == 0.0 and sending.step() == 0.0
    assert receiver.got == ["id1", "id2"] and outbox.depth() == 0
    assert len(logged) == 2 and "again" in logged[1]
    put(outbox, 3)
    receiver.errors = [RetryableError("down")]
    assert sending.step() == 1


def test_nothing_is_sent_before_the_pause_is_over(tmp_path):
    clock, receiver = Clock(), Receiver()
    outbox, sending = sender(tmp_path, receiver, clock)
    put(outbox, 1)
    receiver.errors = [RetryableError("busy", retry_after_s=30)]
    assert sending.step() == 30
    clock.now += 29
    assert sending.step() == 1 and receiver.attempts == 1
    clock.now += 1
    assert sending.step() == 0 and receiver.got == ["id1"]


def test_chance_shortens_a_pause_to_half_at_most():
    assert Backoff(4, 60, chance=lambda: 0.0).next_s() == 2
    pauses = {Backoff(4, 60).next_s() for _ in range(50)}
    assert len(pauses) > 10 and min(pauses) >= 2 and max(pauses) <= 4


def test_what_is_refused_is_dropped_counted_and_logged_once(tmp_path, logged):
    clock, receiver = Clock(), Receiver()
    outbox, sending = sender(tmp_path, receiver, clock)
    put(outbox, 1, 2, 3)
    receiver.errors = [PermanentError("404 Not Found"), PermanentError("404 Not Found")]
    assert [sending.step() for _ in range(3)] == [0, 0, 0]
    assert receiver.got == ["id3"] and sending.refused == 2
    assert len(logged) == 1 and "404" in logged[0]


def test_an_acknowledged_event_that_cannot_be_deleted_is_not_sent_again(tmp_path, monkeypatch):
    clock, receiver = Clock(), Receiver()
    outbox, sending = sender(tmp_path, receiver, clock)
    put(outbox, 1, 2)
    done = outbox.done

    def fails(number: int) -> None:
        raise OutboxError("database or disk is full")

    monkeypatch.setattr(outbox, "done", fails)
    sending.step()
    assert outbox.depth() == 2
    monkeypatch.setattr(outbox, "done", done)
    sending.step()
    assert receiver.got == ["id1", "id2"] and outbox.depth() == 0


def test_a_fault_in_a_transport_keeps_the_event(tmp_path):
    clock, receiver = Clock(), Receiver()
    outbox, sending = sender(tmp_path, receiver, clock)
    put(outbox, 1)
    receiver.errors = [ZeroDivisionError()]
    clock.now += sending.step()
    sending.step()
    assert receiver.got == ["id1"]


def test_the_end_of_a_run_sends_what_waits_and_leaves_the_rest(tmp_path, monkeypatch, logged):
    monkeypatch.setattr(remote, "FLUSH_S", 2.0)
    receiver = Receiver()
    sink = RemoteSink(Outbox(tmp_path / "box.sqlite"), receiver, ["response"])
    assert [sink.write(event(n)) for n in range(20)] == [True] * 20
    assert sink.write({"type": "stats", "id": "s", "stream": "door"}) is False
    assert sink.close() == 0
    assert receiver.got == [f"id{n}" for n in range(20)] and not logged

    receiver.errors = [RetryableError("down")] * 5
    sink = RemoteSink(Outbox(tmp_path / "box.sqlite"), receiver, ["response"])
    sink.write(event(20))
    started = time.monotonic()
    assert sink.close() == 0 and time.monotonic() - started < 2.0
    assert "1 events" in logged[-1] and "next run" in logged[-1]
    receiver.errors = []
    sink = RemoteSink(Outbox(tmp_path / "box.sqlite"), receiver, ["response"])
    assert sink.close() == 0
    assert receiver.got[-1] == "id20"


def test_what_is_too_much_for_memory_is_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(remote, "BACKLOG_EVENTS", 3)
    outbox = Outbox(tmp_path / "box.sqlite")

    def full(*args: object) -> None:
        raise OutboxError("database or disk is full")

    monkeypatch.setattr(outbox, "put", full)
    sink = RemoteSink(outbox, Receiver(), ["response"])
    assert not any([sink.write(event(n)) for n in range(10)])
    assert sink.depth == 3
    assert sink.close() == 10


def test_the_file_is_a_plain_sqlite_one(tmp_path):
    outbox = Outbox(tmp_path / "box.sqlite")
    put(outbox, 1)
    with sqlite3.connect(tmp_path / "box.sqlite") as db:
        assert db.execute("SELECT id, stream, type FROM event").fetchall() == [("id1", "door", "response")]
