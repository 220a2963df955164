"""The calls over real HTTP, on a run with a real model."""

from __future__ import annotations

import asyncio
import io
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx
import pytest
import websockets
from PIL import Image

from edge_runtime.app.web.config import WebConfig
from edge_runtime.app.web.event_log import EventLog
from edge_runtime.app.web.evidence import EvidenceFolder, OpenFileResponse
from tests.edge_runtime.app.web.served_run import QUESTION, served

QUERIES = "/api/v1/cameras/door/queries"


@pytest.fixture(scope="module")
def run(model, tmp_path_factory):
    with served(model, file=tmp_path_factory.mktemp("run") / "events.jsonl") as run:
        yield run


@pytest.fixture
def client(run) -> Iterator[httpx.Client]:
    with run.client() as client:
        yield client


def followed(lines: Iterator[str], count: int) -> list[tuple[str | None, str, dict[str, Any]]]:
    """(id, name, data) of the next events of a stream."""
    found, fields = [], {}
    for line in lines:
        if line:
            name, _, value = line.partition(": ")
            fields[name] = value
        elif "data" in fields:
            found.append((fields.get("id"), fields["event"], json.loads(fields["data"])))
            fields = {}
            if len(found) == count:
                break
    return found


def test_a_question_that_is_asked_is_in_force_at_the_next_timestep(run, client):
    answer = client.post(QUERIES, json={"text": "How many red cars passed by?", "threshold": 0, "repeat": 0})
    decided = run.runner.telemetry.timesteps  # when the answer was there
    assert answer.status_code == 201, answer.text
    asked = answer.json()
    assert asked["threshold"] == 0.0 and asked["budget"] is None and not asked["paused"]
    run.wait_for(3)
    first = run.responses(asked["id"])[0]
    assert first["time"] <= decided + 1 and first["question"] == "How many red cars passed by?"
    url = f"{QUERIES}/{asked['id']}"
    change = {"threshold": 1.0, "budget": 5, "quiet_hours": "22:00-06:30", "debounce": [2, 3], "min_gap": 2}
    changed = client.patch(url, json=change).json()
    assert {name: changed[name] for name in change} == change
    changed = client.patch(url, json={"text": "What else?", "paused": True, "budget": None}).json()
    assert (changed["text"], changed["paused"], changed["budget"]) == ("What else?", True, None)
    assert changed["id"] == asked["id"] and changed["threshold"] == 1.0
    assert [one["id"] for one in client.get(QUERIES).json()] == ["q1", asked["id"]]
    assert client.delete(url).status_code == 204
    for given in ({"paused": True}, {"ask_anyway": True}):
        other = client.post(QUERIES, json={"text": "Who else?", **given}).json()
        (config,) = [one.config for one in run.runner.loop.queries if one.id == other["id"]]
        assert (config.paused, config.ask_anyway) == ("paused" in given, "ask_anyway" in given)
        client.delete(f"{QUERIES}/{other['id']}")
    assert [one["id"] for one in client.get(QUERIES).json()] == ["q1"]
    assert client.delete(url).status_code == 404


def test_cameras_scores_and_pictures(run, client):
    run.wait_for(2)
    (door,) = client.get("/api/v1/cameras").json()
    assert (door["name"], door["width"], door["decoder"], door["fps"]) == ("door", 64, "none", 1.0)
    assert door["p50_ms"] > 0 and client.get("/api/v1/cameras/door").json()["name"] == "door"
    scores = client.get("/api/v1/cameras/door/scores").json()
    assert scores[-1]["type"] == "score" and "q1" in scores[-1]["scores"]
    picture = client.get("/api/v1/cameras/door/snapshot.jpg")
    assert picture.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(picture.content)).size == (64, 64)
    with client.stream("GET", "/api/v1/cameras/door/preview.mjpg") as preview:
        start, parts = time.monotonic(), 0
        for chunk in preview.iter_bytes():
            parts += chunk.count(b"--frame")
            if parts >= 4:
                break
    assert time.monotonic() - start >= 0.5  # five a second at most
    assert client.get("/api/v1/cameras/hall/preview.mjpg").status_code == 404


def test_what_the_model_knows(run, client):
    (bundle,) = client.get("/api/v1/bundles").json()
    known = run.runner.model.bundle
    assert bundle["name"] == known.name and bundle["generated"] is (
        known.knowledge is not None and known.knowledge.footage == "generated"
    )
    assert isinstance(bundle["examples"], list) and isinstance(bundle["not_examples"], list)


def test_the_files_of_the_page_are_asked_for_anew_each_time(client):
    page = client.get("/")
    assert page.headers["cache-control"] == "no-cache"
    for path in re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text):
        file = client.get(path)
        assert file.status_code == 200 and file.headers["cache-control"] == "no-cache"
        again = client.get(path, headers={"If-None-Match": file.headers["etag"]})
        assert again.status_code == 304


def test_who_connects_again_with_its_last_id_misses_nothing(run, client):
    ids = []
    stream = "/api/v1/events/stream"
    for _ in range(4):
        last = {"Last-Event-ID": ids[-1]} if ids else {}
        with client.stream("GET", stream, headers=last, params={"type": "response"}) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = followed(answer.iter_lines(), 5)
        assert all(name == data["type"] == "response" and id == data["id"] for id, name, data in events)
        ids += [id for id, _, _ in events]
        run.wait_for(4)  # away for a while
    everything = [event["id"] for event in run.responses()]
    start = everything.index(ids[0])
    assert ids == everything[start : start + len(ids)]


def test_scores_come_once_for_each_timestep_and_have_no_id(run, client):
    with client.stream("GET", "/api/v1/events/stream?scores=true&type=stats") as answer:
        events = followed(answer.iter_lines(), 5)
    assert [(id, name) for id, name, _ in events] == [(None, "score")] * 5
    times = [data["time"] for _, _, data in events]
    assert times == [times[0] + n for n in range(5)]


def test_past_events_in_pages_and_by_type(run, client):
    run.wait_for(5)
    page = client.get("/api/v1/events", params={"limit": 3, "type": "response"}).json()
    assert len(page["events"]) == 3 and page["last"] == page["events"][-1]["id"]
    first = page["events"][0]["id"]
    later = client.get("/api/v1/events", params={"since": first, "limit": 1, "type": "response"}).json()
    assert later["events"] == page["events"][1:2] and later["complete"] and later["more"]
    unknown = client.get("/api/v1/events", params={"since": "0" * 26}).json()
    assert not unknown["complete"] and unknown["events"]
    assert client.get("/api/v1/events", params={"camera": "hall"}).json()["events"] == []
    assert client.get("/api/v1/events", params={"limit": 100_000}).status_code == 422


def test_what_was_written_before_a_restart_is_still_found(tmp_path):
    """In the file and in those that were rotated; a line that was cut off is passed over."""
    log = EventLog(tmp_path / "events.jsonl")
    assert log.newest(5) == [] and log.since("X").events == []

    def lines(*numbers: int) -> str:
        return "".join(json.dumps({"type": "response", "id": f"{n:026d}"}) + "\n" for n in numbers)

    (tmp_path / "events.jsonl.1").write_text(lines(*range(1, 3000)))
    (tmp_path / "events.jsonl").write_text('{"type": "resp\n' + lines(3000, 3001, 3002))
    log.add({"type": "response", "id": f"{3002:026d}"})
    log.add({"type": "response", "id": f"{3003:026d}"})
    page = log.since(f"{2998:026d}")
    assert page.complete and [int(event["id"]) for event in page.events] == [2999, 3000, 3001, 3002, 3003]
    assert [int(event["id"]) for event in log.newest(3)] == [3001, 3002, 3003]
    assert len(log.since("never").events) == 3003 and not log.since("never").complete


def test_a_websocket_gives_events_and_scores(run):
    async def listen() -> list[dict[str, Any]]:
        url = run.url.replace("http", "ws") + "/api/v1/ws"
        async with websockets.connect(url, proxy=None) as socket:
            await socket.send("what a client says is ignored")
            first = [json.loads(await socket.recv()) for _ in range(6)]
            last = [message["id"] for message in first if "id" in message][-1]
        async with websockets.connect(f"{url}?since={last}&scores=false&type=response", proxy=None) as socket:
            return [*first, *[json.loads(await socket.recv()) for _ in range(3)]]

    messages = asyncio.run(listen())
    run.wait_for(2)  # clients hear of an event before the last sink does
    kinds = [message["type"] for message in messages]
    assert kinds.count("score") >= 2 and kinds[6:] == ["response"] * 3
    ids = [message["id"] for message in messages if message["type"] == "response"]
    everything = [event["id"] for event in run.responses()]
    start = everything.index(ids[0])
    assert ids == everything[start : start + len(ids)]


def test_health_metrics_and_openapi_move_here(client):
    assert client.get("/health/live").text == client.get("/health/ready").text == "ok\n"
    metrics = client.get("/metrics").text
    assert 'edge_run_timesteps_total{stream="door"}' in metrics and "edge_run_web_clients" in metrics
    paths = client.get("/openapi.json").json()["paths"]
    assert {"/api/v1/cameras", "/api/v1/events/stream"} <= paths.keys()
    assert client.get("/").status_code == 200 and client.get("/docs").status_code == 404


def test_evidence_is_served_and_nothing_else(model, tmp_path):
    folder, id = tmp_path / "evidence", "01M8PDKMX85ESDCYRDM9B8EEY8"
    folder.mkdir()
    (folder / f"{id}.jpg").write_bytes(b"a picture")
    (folder / f"{id}.mp4").write_bytes(bytes(range(100)))
    (tmp_path / "secret.jpg").write_text("secret")
    (folder / f"{id[:-1]}9.jpg").symlink_to(tmp_path / "secret.jpg")
    with served(model, evidence=EvidenceFolder(folder)) as run, run.client() as client:
        base = "/api/v1/events"
        picture = client.get(f"{base}/{id}/snapshot.jpg")
        assert (picture.content, picture.headers["content-type"]) == (b"a picture", "image/jpeg")
        part = client.get(f"{base}/{id}/clip.mp4", headers={"Range": "bytes=10-19"})
        assert (part.status_code, part.content) == (206, bytes(range(10, 20)))
        for name in (
            "..%2fsecret",
            "../secret",
            "%2e%2e%2fsecret",
            f"{id[:-1]}9",
            f"..%2fevidence%2f{id}",
            "%00",
        ):
            assert client.get(f"{base}/{name}/snapshot.jpg").status_code == 404, name


class DeletedMeanwhile(EvidenceFolder):
    """Retention deletes each file right after it was found, or once it was opened."""

    def find(self, event_id, kind):
        path = super().find(event_id, kind)
        if path is not None and kind == "snapshot":
            path.unlink()
        return path


def test_evidence_that_is_deleted_while_it_is_asked_for(model, tmp_path, monkeypatch, logged):
    id = "01M8PDKMX85ESDCYRDM9B8EEY8"
    clip, content = tmp_path / f"{id}.mp4", bytes(range(256)) * 4000
    (tmp_path / f"{id}.jpg").write_bytes(b"a picture")
    clip.write_bytes(content)
    call = OpenFileResponse.__call__

    async def delete_and_call(response, *args):
        clip.unlink()
        await call(response, *args)

    monkeypatch.setattr(OpenFileResponse, "__call__", delete_and_call)
    with served(model, evidence=DeletedMeanwhile(tmp_path)) as run, run.client() as client:
        assert client.get(f"/api/v1/events/{id}/snapshot.jpg").status_code == 404
        whole = client.get(f"/api/v1/events/{id}/clip.mp4")
        assert (whole.status_code, whole.content) == (200, content)
    assert not [line for line in logged if "unexpected" in line]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", QUERIES, {"text": ""}, 422),
        ("POST", QUERIES, {"text": " "}, 422),
        ("POST", QUERIES, {"text": "x" * 2001}, 422),
        ("POST", QUERIES, {"text": "a?", "tresh": 1}, 422),
        ("POST", QUERIES, {"text": "a?", "debounce": [3, 2]}, 422),
        ("POST", QUERIES, {"text": "a?", "quiet_hours": "soon"}, 422),
        ("POST", "/api/v1/cameras/hall/queries", {"text": "a?"}, 404),
        ("PATCH", f"{QUERIES}/q9", {"paused": True}, 404),
        ("PATCH", f"{QUERIES}/q1", {"threshold": 1.5}, 422),
        ("PATCH", f"{QUERIES}/q1", {"text": "word " * 399}, 422),
        ("PUT", f"{QUERIES}/q1", {}, 405),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(client, method, path, body, status):
    answer = client.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert isinstance(detail, str) and detail and "\n" not in detail
    assert client.get(QUERIES).json()[0]["text"] == QUESTION.text


def test_an_address_that_is_taken_is_an_error(model, run):
    from edge_runtime.errors import SinkError

    port = int(run.url.rpartition(":")[2])
    with (
        pytest.raises(SinkError, match=rf"127.0.0.1:{port}: .*give --web another address"),
        served(model, WebConfig(("127.0.0.1", port))),
    ):
        pass


def test_the_server_ends_at_once_although_clients_follow(model):
    stream = ("GET", "/api/v1/events/stream")
    with served(model) as run, run.client() as client, client.stream(*stream) as answer:
        lines = answer.iter_lines()
        followed(lines, 2)
        begin = time.monotonic()
        closing = threading.Thread(target=run.server.close)
        closing.start()
        with suppress(httpx.RemoteProtocolError):
            for _ in lines:
                pass
        closing.join()
        assert time.monotonic() - begin < 4
