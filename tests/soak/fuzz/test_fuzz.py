"""The fuzz harness, a small part of its cases, and inputs that once made the program fall over."""

from __future__ import annotations

import gc
import random
from pathlib import Path

import pytest
from click import ClickException

from edge_runtime.app.config_file import load_config
from edge_runtime.errors import ConfigError
from tests.soak.fuzz import run as fuzz
from tests.soak.fuzz import worker as fuzz_worker
from tests.soak.fuzz.cases import (
    REPLIES,
    SDP,
    Case,
    Material,
    load_material,
    make_case,
    make_material,
    save_material,
)
from tests.soak.fuzz.mutation import spoil, spoil_text

SOUND = Material({"mp4": bytes(range(256)) * 8, "png": b"\x89PNG" * 64}, (b"\x80\x60" + bytes(40),))


def test_a_case_is_made_again_from_its_number() -> None:
    for number in range(60):
        assert make_case(3, number, SOUND) == make_case(3, number, SOUND)
    different = {make_case(3, number, SOUND).data for number in range(0, 400, 20)}
    assert len(different) >= 19
    assert make_case(3, 0, SOUND) != make_case(4, 0, SOUND)


def test_damage_is_done() -> None:
    data = bytes(range(256)) * 4
    spoiled = [spoil(data, random.Random(seed)) for seed in range(200)]
    assert sum(one != data for one in spoiled) > 190
    assert any(len(one) < len(data) for one in spoiled)
    assert any(len(one) > len(data) for one in spoiled)
    texts = {spoil_text("a = 1\nb = 2\n[c]\n", random.Random(seed)) for seed in range(200)}
    assert len(texts) > 120


def test_material_survives_the_disk(tmp_path: Path) -> None:
    save_material(SOUND, tmp_path)
    assert load_material(tmp_path) == SOUND


def test_configurations_by_the_hundred(tmp_path: Path) -> None:
    """In this process: `--kind config` of the benchmark runs thousands."""
    results = []
    for number in (n for n in range(10_000, 10_200) if fuzz.kind_of(n) == "config"):
        outcome = fuzz_worker.run_case(make_case(0, number, SOUND), tmp_path)
        assert outcome.result != "finding", (number, outcome.detail)
        results.append(outcome.result)
    assert {"accepted", "refused"} == set(results)


@pytest.mark.parametrize("text", ["a = " + "[" * 3000, "a = " + "{b=" * 3000, "a" + ".a" * 5000 + " = 1"])
def test_brackets_too_deep_in_each_other(text: str, tmp_path: Path) -> None:
    (tmp_path / "edge-run.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "edge-run.toml")
    assert "\n" not in str(caught.value)


def test_a_finding_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no one-line error of the program's own counts, or the harness could not fail."""
    case = Case(0, "config", "edge-run.toml", b"")
    for error in (ZeroDivisionError("x"), ConfigError("two\nlines"), ConfigError("KeyError: 'name'")):

        def read(*_: object, error: Exception = error) -> None:
            raise error

        monkeypatch.setattr(fuzz_worker, "_read_config", read)
        assert fuzz_worker.run_case(case, tmp_path).result == "finding"


@pytest.mark.gst
@pytest.mark.slow
def test_files_and_servers_in_processes_of_their_own(tmp_path: Path) -> None:
    pytest.importorskip("gi")
    save_material(make_material(), tmp_path)
    records = fuzz.run_cases(range(20_000, 20_080), 0, ["file", "rtsp"], tmp_path)
    assert {record["kind"] for record in records} == {"file", "rtsp"}
    assert len(records) == 12
    result = fuzz.summary(records, 0)
    assert result["findings"] == []
    assert result["passed"]


@pytest.mark.gst
def test_a_process_that_dies_is_a_finding_and_the_next_case_follows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first case's process is killed while it runs it; the second is run by another."""
    pytest.importorskip("gi")
    save_material(SOUND, tmp_path)
    notes: list[dict[str, object]] = []
    worker = fuzz._Worker(0, "config", tmp_path, notes.append)
    real = fuzz._next_line

    def dies_once(lines: object, patience_s: float) -> str | None:
        line = real(lines, patience_s)  # type: ignore[arg-type]
        return "" if line and '"case": 0' in line else line

    monkeypatch.setattr(fuzz, "_next_line", dies_once)
    worker.run(range(2))
    assert notes[0]["result"] == "finding"
    assert notes[1]["case"] == 1
    assert notes[1]["result"] in ("accepted", "refused")


@pytest.mark.gst
def test_a_process_that_dies_between_two_cases_is_no_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the system is out of memory and sends SIGKILL: what it has not run yet counts for nothing."""
    pytest.importorskip("gi")
    save_material(SOUND, tmp_path)
    real, over = fuzz._next_line, False

    def dies_after_one(lines: object, patience_s: float) -> str | None:
        nonlocal over
        line = "" if over else real(lines, patience_s)  # type: ignore[arg-type]
        over = bool(line and '"result"' in line)
        return line

    monkeypatch.setattr(fuzz, "_next_line", dies_after_one)
    config = [number for number in range(20) if fuzz.kind_of(number) == "config"]
    assert len(config) > 1
    with pytest.raises(ClickException, match=rf"config cases ended with .* after 1 of {len(config)} cases"):
        fuzz._Worker(0, "config", tmp_path, lambda record: None).run(range(20))


@pytest.mark.gst
@pytest.mark.parametrize("payload", [b"\x7c", b"\x1d", b"\x7c\x41", b"\x62\x01\x13"])
def test_an_rtsp_fragment_that_carries_nothing(payload: bytes, tmp_path: Path) -> None:
    """GStreamer 1.22's depayloader would make 4 GB of it and end the process."""
    pytest.importorskip("gi")
    head = b"\x80\x60\x00\x07\x00\x00\x23\x28\x00\x00\x00\x01"
    packet = head + payload
    sdp = SDP.replace("\n", "\r\n").encode()
    replies = {method: text.replace("\n", "\r\n").encode() for method, text in REPLIES.items()}
    replies["DESCRIBE"] = (
        b"RTSP/1.0 200 OK\r\nCSeq: {cseq}\r\nContent-Type: application/sdp\r\n"
        b"Content-Length: %d\r\n\r\n" % len(sdp)
    ) + sdp
    media = b"".join(b"$\x00" + len(packet).to_bytes(2, "big") + packet for _ in range(20))
    outcome = fuzz_worker.run_case(Case(0, "rtsp", "packets", replies=replies, media=media), tmp_path)
    assert outcome.result == "refused", outcome.detail


@pytest.mark.gst
def test_a_server_that_keeps_the_connection_open_leaves_nothing_behind(tmp_path: Path) -> None:
    """It answers nothing, not even TEARDOWN: the connection is let go when the server is."""
    pytest.importorskip("gi")
    from pipelines.pipeline.connection import Connection

    case = Case(0, "rtsp", "noise", replies={"DESCRIBE": b""}, media=b"")
    for _ in range(2):
        assert fuzz_worker.run_case(case, tmp_path).result == "refused"
    gc.collect()
    left = [found for found in gc.get_objects() if isinstance(found, Connection)]
    assert len(left) <= 1
