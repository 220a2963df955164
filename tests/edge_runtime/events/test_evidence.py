"""Evidence beside the decisions: announced at once, written later, and never in their way."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from edge_runtime.events import evidence
from edge_runtime.events.evidence import CameraEvidence, EvidenceWriter
from edge_runtime.events.evidence_config import EvidenceSettings, Retention
from edge_runtime.events.evidence_store import EvidenceStore

ROOT = Path(__file__).resolve().parents[3]


class FakeClip:
    at_s = 5.25

    def __init__(self, data: bytes = b"clip") -> None:
        self.data = data

    def write(self, path: Path) -> None:
        path.write_bytes(self.data)


class FakeMoment:
    """A moment whose clip is complete when ``end`` is called."""

    has_picture = True

    def __init__(self, problem: str = "") -> None:
        self.problem = problem
        self.clip = FakeClip()
        self.asked: tuple[float, float] | None = None

    def jpeg(self) -> bytes:
        return b"jpeg"

    def clip_problem(self) -> str:
        return self.problem

    def record(self, pre_s, post_s, on_done):
        self.asked = (pre_s, post_s)
        self.end = lambda: on_done(self.clip)
        return self.clip


def event_id(number: int) -> str:
    return f"{number:026d}"


@pytest.fixture
def writer(tmp_path):
    made = EvidenceWriter(EvidenceStore(tmp_path / "evidence", Retention()))
    yield made
    made.close()


def camera(writer, **settings) -> CameraEvidence:
    return CameraEvidence(writer, "door", EvidenceSettings(**settings), live=True)


def wait_for(path: Path) -> bytes:
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)
    return path.read_bytes()


def test_names_are_known_before_the_files_are_there(writer):
    moment, id = FakeMoment(), event_id(1)
    kept = camera(writer, pre_s=3.0, post_s=4.0).keep(id, moment)
    assert kept == {"evidence": {"snapshot": f"{id}.jpg", "clip": f"{id}.mp4", "clip_at": 5.25}}
    assert moment.asked == (3.0, 4.0)
    assert wait_for(writer.store.folder / f"{id}.jpg") == b"jpeg"
    assert not (writer.store.folder / f"{id}.mp4").exists()
    moment.end()
    assert wait_for(writer.store.folder / f"{id}.mp4") == b"clip"


def test_what_is_switched_off_or_cannot_be_is_not_announced(writer, caplog):
    id = event_id(1)
    assert camera(writer, clip="off").keep(id, FakeMoment()) == {"evidence": {"snapshot": f"{id}.jpg"}}
    assert camera(writer, clip="off", snapshot=False).keep(id, FakeMoment()) == {}
    assert camera(writer).keep(id, None) == {}
    one = camera(writer, snapshot=False)
    with caplog.at_level(logging.WARNING):
        assert [one.keep(id, FakeMoment("no encoder")) for _ in range(3)] == [{}] * 3
    assert [record.getMessage() for record in caplog.records] == ["door: no clips are kept: no encoder"]


def test_a_hundred_events_in_a_row(writer, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_WAITING", 1000)
    one, moments = camera(writer), [FakeMoment() for _ in range(100)]
    for number, moment in enumerate(moments):
        assert len(one.keep(event_id(number), moment)["evidence"]) == 3
    for moment in reversed(moments):
        moment.end()
    assert writer.close() == 0
    assert len(list(writer.store.folder.iterdir())) == 200


def test_too_many_at_once_of_a_live_camera_are_given_up_and_said_once(writer, monkeypatch, caplog):
    monkeypatch.setattr(evidence, "MOST_WAITING", 2)
    one, moments = camera(writer, snapshot=False), [FakeMoment() for _ in range(4)]
    kept = [one.keep(event_id(number), moment) for number, moment in enumerate(moments)]
    assert [bool(entry) for entry in kept] == [True, True, False, False]
    assert len(caplog.records) == 1
    moments[0].end()
    wait_for(writer.store.folder / f"{event_id(0)}.mp4")
    moments[1].end()


def test_a_recording_waits_instead(writer, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_WAITING", 1)
    one = CameraEvidence(writer, "clip.mp4", EvidenceSettings(snapshot=False), live=False)
    first, second = FakeMoment(), FakeMoment()
    may_write = threading.Event()
    first.clip.write = lambda path: may_write.wait(10) and path.write_bytes(b"clip")
    one.keep(event_id(1), first)
    first.end()
    threading.Timer(0.2, may_write.set).start()
    assert one.keep(event_id(2), second)
    assert (writer.store.folder / f"{event_id(1)}.mp4").exists()
    second.end()


def test_open_clips_of_a_recording_do_not_hold_up_its_reading(writer, monkeypatch):
    monkeypatch.setattr(evidence, "MOST_WAITING", 1)
    one = CameraEvidence(writer, "clip.mp4", EvidenceSettings(snapshot=False), live=False)
    moments = [FakeMoment() for _ in range(5)]
    for number, moment in enumerate(moments):
        assert one.keep(event_id(number), moment)
    for moment in moments:
        moment.end()


def test_a_failure_is_said_once_and_once_when_it_is_over(writer, caplog):
    caplog.set_level(logging.WARNING)
    one = camera(writer, snapshot=False)
    for number, data in enumerate([None, None, b"good", None, b"good"]):
        moment = FakeMoment()
        moment.clip.data = data
        one.keep(event_id(number), moment)
        moment.end()
    assert writer.close() == 3
    said = [record.getMessage() for record in caplog.records]
    assert ["cannot" in line for line in said] == [True, False, True, False]


# A tmpfs of its own in a namespace of its own: really full, and gone with the process.
FULL_DISK = """
import json, logging, os, sys, time
from pathlib import Path
from edge_runtime.events.evidence_config import EvidenceSettings, Retention
from edge_runtime.events.evidence import CameraEvidence, EvidenceWriter
from edge_runtime.events.evidence_store import EvidenceStore
from pipelines.camera import CameraOptions, Frame, open_camera
from pipelines.evidence.ring import Footage

disk, source, said = Path(sys.argv[1]), sys.argv[2], []
log = logging.Handler()
log.emit = lambda record: said.append(record.getMessage())
logging.getLogger("edge_runtime").addHandler(log)
writer = EvidenceWriter(EvidenceStore(disk / "evidence", Retention()))
one = CameraEvidence(writer, "door", EvidenceSettings(pre_s=1, post_s=1), live=False)
filler, index = open(disk / "filler", "wb", buffering=0), 0

def settle():
    while writer._waiting: time.sleep(0.01)

frames = 0
with open_camera(source, options=CameraOptions(evidence=Footage(pre_s=1))) as camera:
    for item in camera:
        if not isinstance(item, Frame): continue
        frames += 1
        if item.index == 8:
            settle()
            try:
                while filler.write(b"x" * 512): ...
            except OSError: ...
        if item.index == 20:
            settle()
            during = sorted(os.listdir(disk / "evidence"))
            os.unlink(disk / "filler"); filler.close()
        if item.index in (4, 10, 12, 14, 22): one.keep(f"{item.index:026d}", item.moment)
lost = writer.close()
print(json.dumps({"frames": frames, "lost": lost, "said": said, "during": during,
                  "after": sorted(os.listdir(disk / "evidence"))}))
"""


@pytest.mark.gst
def test_a_full_disk_is_said_once_and_the_watching_goes_on(tmp_path):
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed")
    sample = ROOT / "edge_runtime" / "samples" / "sample.mp4"
    inside = ["sh", "-c", 'mount -t tmpfs -o size=1m tmpfs "$1" && exec "$2" -c "$3" "$1" "$4"', "sh"]
    done = subprocess.run(
        ["unshare", "-rm", *inside, str(tmp_path), sys.executable, FULL_DISK, str(sample)],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=ROOT,
    )
    if "mount" in done.stderr or "unshare" in done.stderr:
        pytest.skip(f"no file system may be mounted here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    files = [f"{index:026d}{ending}" for index in (4, 22) for ending in (".jpg", ".mp4")]
    assert result["frames"] == 33 and result["lost"] == 6
    assert result["during"] == files[:2] and result["after"] == files
    assert ["cannot" in line for line in result["said"]] == [True, False]
    assert "No space left on device" in result["said"][0]
