"""Real files, real processes; what an engine holds is of no matter here."""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edge_runtime.backends.tensorrt.api import Built, Tensor
from edge_runtime.backends.tensorrt.engine_cache import EngineCache, default_folder
from edge_runtime.errors import BackendError

ROOT = Path(__file__).resolve().parents[3]
KEY = {"engine": "tensorrt", "version": "10.3.0", "cuda_major": 12, "gpu": "Orin", "sm": 87, "graph": "abc"}
BUILT = Built(b"plan" * 1000, (Tensor("logits", False, (1, -1), "float32"),), b"timings")


@pytest.fixture
def cache(tmp_path):
    return EngineCache(tmp_path / "engines")


def get(cache, key=KEY, built=BUILT):
    """What the cache gives, and what the build was given: None when nothing was built."""
    seen = []

    def build(timing):
        seen.append(timing)
        return built

    return cache.get("nano-decoder", key, build), (seen or [None])[0]


def test_built_once_then_read(cache, logged):
    assert get(cache) == (BUILT, b"")
    again, timing = get(cache)
    assert timing is None
    assert (again.plan, again.tensors) == (BUILT.plan, BUILT.tensors)
    assert logged == ["engine nano-decoder: building"]
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in cache.folder.iterdir()} == {0o600}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "10.15.1"}, "for version 10.3.0, not 10.15.1"),
        ({"gpu": "RTX 4090", "sm": 89}, "for gpu Orin, not RTX 4090"),
        ({"graph": "def"}, "for graph abc, not def"),
        ({"precision": "int8"}, "for precision None, not int8"),
    ],
)
def test_stale(cache, logged, change, reason):
    get(cache)
    _, timing = get(cache, KEY | change)
    assert timing is not None and reason in logged[-1]
    assert (timing == b"timings") is not bool({"version", "gpu"} & set(change))  # they hold for one GPU
    assert get(cache, KEY | change)[1] is None  # and the new one is kept


def truncate(folder):
    path = folder / "nano-decoder.plan"
    path.write_bytes(path.read_bytes()[:100])


def tamper(folder):
    path = folder / "nano-decoder.plan"
    path.write_bytes(path.read_bytes().replace(b"plan", b"evil", 1))


def spoil_sidecar(folder):
    (folder / "nano-decoder.json").write_text('{"key": ')


def drop_sidecar(folder):
    (folder / "nano-decoder.json").unlink()


def link(folder):
    path = folder / "nano-decoder.plan"
    path.rename(folder.parent / "elsewhere")
    path.symlink_to(folder.parent / "elsewhere")


def open_to_others(folder):
    (folder / "nano-decoder.plan").chmod(0o666)


def open_folder(folder):
    folder.chmod(0o777)


def newer_schema(folder):
    path = folder / "nano-decoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (truncate, r"truncated \(100 of 4000 bytes\)"),
        (tamper, "was changed after it was built"),
        (spoil_sidecar, "what describes the stored one is damaged"),
        (drop_sidecar, "an earlier build was cut short"),
        (link, "nano-decoder.plan is a link"),
        (open_to_others, "others can write to nano-decoder.plan"),
        (open_folder, "others could write there"),
        (newer_schema, "of schema 2, not 1"),
    ],
)
def test_what_cannot_be_trusted_is_built_again_and_the_reason_logged(cache, logged, harm, reason):
    get(cache)
    harm(cache.folder)
    built, timing = get(cache)
    assert timing is not None and built.plan == BUILT.plan
    assert re.search(reason, "\n".join(logged[1:]))
    assert get(cache)[1] is None
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file away")
def test_foreign(cache, logged):
    get(cache)
    os.chown(cache.folder / "nano-decoder.plan", 12345, -1)
    assert get(cache)[1] is not None
    assert "belongs to another user" in logged[-1]
    os.chown(cache.folder, 12345, -1)
    with pytest.raises(BackendError, match="is not a folder of this user"):
        get(cache)


def test_a_folder_that_is_a_link_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "engines").symlink_to(tmp_path / "real")
    with pytest.raises(BackendError, match="is not a folder of this user"):
        get(EngineCache(tmp_path / "engines"))


def test_a_failed_build_keeps_nothing(cache):
    def fail(timing):
        raise BackendError("no engine could be built")

    with pytest.raises(BackendError, match="could be built"):
        cache.get("nano-decoder", KEY, fail)
    assert [path.suffix for path in cache.folder.iterdir()] == [".lock"]


def test_slots_cannot_lead_out_of_the_folder(cache, tmp_path):
    cache.get("../../x/y", KEY, lambda _: BUILT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["engines"]


def test_the_folder_is_in_the_users_cache(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/cache")
    assert default_folder() == Path("/home/me/cache/streampro-edge/engines")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_folder() == Path.home() / ".cache/streampro-edge/engines"


BUILDER = """
import logging, sys, time
from pathlib import Path
from edge_runtime.backends.tensorrt.engine_cache import EngineCache
from edge_runtime.backends.tensorrt.api import Built
folder = Path(sys.argv[1])
def build(timing):
    (folder / ".nano-decoder.plan.1.tmp").write_bytes(b"half")
    while not (folder.parent / "go").exists():
        time.sleep(0.05)
    return Built(b"plan", ())
logging.basicConfig(level="INFO", stream=sys.stdout, format="%(message)s")
EngineCache(folder).get("nano-decoder", {"graph": "abc"}, build)
print("done", flush=True)
"""


@pytest.fixture
def start(tmp_path):
    """Starts a process that builds once the file ``go`` is there; its lines are read as they come."""
    running = []

    def start():
        command = [sys.executable, "-c", BUILDER, str(tmp_path / "engines")]
        running.append(subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def test_a_second_process_waits_for_the_first_ones_build(start, tmp_path):
    first = start()
    assert first.stdout.readline() == "engine nano-decoder: building\n"
    second = start()
    assert second.stdout.readline() == "engine nano-decoder: another process is building it, waiting\n"
    (tmp_path / "go").touch()
    assert [process.communicate(timeout=60)[0] for process in (first, second)] == ["done\n", "done\n"]


def test_a_build_that_is_killed_leaves_nothing_that_is_used(start, tmp_path):
    first = start()
    assert first.stdout.readline() == "engine nano-decoder: building\n"
    half = tmp_path / "engines" / ".nano-decoder.plan.1.tmp"
    while not half.exists():
        time.sleep(0.05)
    first.kill()
    first.wait(timeout=10)
    (tmp_path / "go").touch()
    second = start()
    assert second.communicate(timeout=60)[0] == "engine nano-decoder: building\ndone\n"
    names = {path.name for path in (tmp_path / "engines").iterdir()}
    assert names >= {"nano-decoder.plan", "nano-decoder.json", "nano-decoder.lock"}


def test_adopting_what_was_built_elsewhere(cache, logged, tmp_path):
    ahead = KEY | {"engine": "tensorrt_rtx", "gpu": "", "sm": [86, 89, 120], "cuda_major": 0}
    EngineCache(tmp_path / "built").write("nano-decoder", ahead, BUILT)
    assert cache.import_engines(tmp_path / "built") == ["nano-decoder"]
    here = ahead | {"gpu": "RTX 4090", "sm": 89, "cuda_major": 13}
    assert get(cache, here)[1] is None
    assert get(cache, here | {"sm": 75})[1] is not None
    assert "for sm [86, 89, 120], not 75" in logged[-1]


def test_adopting_what_is_not_whole_is_refused(cache, tmp_path):
    with pytest.raises(BackendError, match="no engines there"):
        cache.import_engines(tmp_path)
    EngineCache(tmp_path / "built").write("nano-decoder", KEY, BUILT)
    tamper(tmp_path / "built")
    with pytest.raises(BackendError, match="was changed after it was built; copy the engines again"):
        cache.import_engines(tmp_path / "built")
    assert not (cache.folder / "nano-decoder.plan").exists()


def test_no_room_is_one_line(cache, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BackendError, match=r"nano-decoder.plan: cannot be written .No space left"):
        get(cache)
