"""The benchmark of drafts runs on a tiny bundle and writes the texts it is given."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner

from benchmarks.latency.speculation import captions, events, main, sentences

TEXT = """# A heading

One sentence that says a first thing in words. Short one. Another sentence that says a second thing at length.

```sh
a command that is no sentence at all in prose.
```
"""


def test_both_ways_are_measured(tiny_bundle: Path, tmp_path: Path) -> None:
    prose, out = tmp_path / "text.md", tmp_path / "speculation.json"
    prose.write_text(TEXT)
    arguments = ["--bundle", str(tiny_bundle), "--prose", str(prose), "--context", "64"]
    arguments += ["--responses", "4", "--rounds", "2", "--out", str(out)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    kinds = json.loads(out.read_text())["kinds"]
    assert list(kinds) == ["captions", "events", "prose"]
    assert all(found["ratio"]["n"] == 2 and found["ratio"]["p50"] > 0 for found in kinds.values())


def test_the_texts(tmp_path: Path) -> None:
    assert len(captions(30)) == 30 and len(events(30)) == 30
    prose = tmp_path / "text.md"
    prose.write_text(TEXT)
    assert sentences(prose, 5) == [
        "One sentence that says a first thing in words.",
        "Another sentence that says a second thing at length.",
    ]


def test_a_context_that_does_not_fit(tiny_bundle: Path, tmp_path: Path) -> None:
    prose = tmp_path / "text.md"
    prose.write_text(TEXT)
    arguments = ["--bundle", str(tiny_bundle), "--prose", str(prose), "--context", "4000"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code != 0 and "has 384 slots" in result.output
