"""Kept replies survive kills and are shared between processes."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.metric.annotations import FormatError
from benchmarks.metric.llm.reply_cache import ReplyCache
from edge_runtime.errors import SinkError

ROOT = Path(__file__).resolve().parents[4]
REPLIES = {f"k{i}": f"é\u2028\r{i}" for i in range(5)}


def test_replies_come_back(tmp_path: Path) -> None:
    cache = ReplyCache(tmp_path / "new/c.jsonl")
    for key, reply in REPLIES.items():
        cache.put(key, reply, {"note": key})
    again = ReplyCache(cache.path)
    assert {key: again.get(key) for key in REPLIES} == REPLIES
    assert again.get("other") is None and len(again) == 5
    assert json.loads(cache.path.read_text().split("\n")[0])["note"] == "k0"
    cache.put("k0", "later", {})
    assert cache.get("k0") == ReplyCache(cache.path).get("k0") == "later"


@settings(deadline=None, max_examples=30)
@given(share=st.floats(0, 1))
def test_kill_at_any_byte(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("cache") / "c.jsonl"
    cache = ReplyCache(path)
    for key, reply in REPLIES.items():
        cache.put(key, reply, {})
    data = path.read_bytes()
    kept = data[: round(share * len(data))]
    path.write_bytes(kept)
    cache = ReplyCache(path)
    assert len(cache) == kept.count(b"\n")
    for key, reply in REPLIES.items():
        if cache.get(key) is None:
            cache.put(key, reply, {})
    assert path.read_bytes() == data


def test_threads_and_processes_share_a_file(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    program = (
        "import sys; from pathlib import Path; from benchmarks.metric.llm.reply_cache import ReplyCache\n"
        "cache = ReplyCache(Path(sys.argv[1]))\n"
        "for i in range(60): cache.put(f'{sys.argv[2]}-{i}', 'x' * 5000, {})"
    )
    others = [
        subprocess.Popen([sys.executable, "-c", program, str(path), name], cwd=ROOT) for name in ("a", "b")
    ]
    cache = ReplyCache(path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: cache.put(f"c-{i}", "y" * 5000, {}), range(60)))
    assert [process.wait(60) for process in others] == [0, 0]
    assert len(ReplyCache(path)) == 180


@pytest.mark.parametrize("line", ["nonsense", "[]", '{"key": "k"}', '{"key": "k", "reply": 3}', ""])
def test_foreign_line_is_named_and_left_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text('{"key": "k", "reply": "r"}\n' + line + "\n")
    with pytest.raises(FormatError, match=r"c\.jsonl, line 2"):
        ReplyCache(path)
    assert path.read_text().endswith(line + "\n")


def test_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="cannot be used"):
        ReplyCache(tmp_path / "file/c.jsonl")
