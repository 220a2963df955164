"""Every code block of README, CONTRIBUTING and docs: run, or checked against what the code offers."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

import edge_runtime
from benchmarks.metric.annotations import parse_annotation, parse_prediction
from edge_runtime.app.config_file import load_config
from edge_runtime.events.records import Event, EventMaker, Response
from tests.docs.code_blocks import LANGUAGES, NOTES, PAGES, ROOT, Block, blocks_of, commands_of

SAMPLE = ROOT / "edge_runtime" / "samples" / "sample.mp4"
CAMERA = "rtsp://192.0.2.7/stream"  # what pages write for a network camera; the sample clip stands in for it
PORT = "8808"  # of receivers in pages; a free one is taken
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
RUN = [page for page in PAGES if any(block.run for block in blocks_of(page))]
# CONTRIBUTING has commands of its own parts, which are not there without them; it is run.
WITH_COMMANDS = [page for page in PAGES if page.name != "CONTRIBUTING.md" and list(commands_of(page))]
MARKS = {
    "tutorial.md": [pytest.mark.slow],
    "CONTRIBUTING.md": [pytest.mark.slow],
}
DEFAULT_COMMAND = {"edge_runtime": "run", "export": "bundle"}  # what is meant when no command is named
_COMMAND_LINE = re.compile(r"^  ([a-z][\w-]*)\s{2,}\S", re.M)
_FILE = re.compile(
    r"`((?:edge_runtime|pipelines|train|export|benchmarks|tests|scripts|deploy)/[\w./-]*[\w/])[:`]"
)
_LINK = re.compile(r"\]\(([^)#\s]+?)(?:#[^)\s]*)?\)")


def named(pages: Iterable[Path], marks: Mapping[str, list[pytest.MarkDecorator]] | None = None) -> list[Any]:
    marks = marks or {}
    return [
        pytest.param(page, marks=marks.get(page.name, []), id=page.relative_to(ROOT).as_posix())
        for page in pages
    ]


def test_blocks_are_found() -> None:
    assert len(BLOCKS) > 30 and len(RUN) >= 2
    for page in PAGES:  # also one that is indented, which would be passed over
        assert page.read_text(encoding="utf-8").count("```") == 2 * len(blocks_of(page)), page


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in LANGUAGES
    assert not block.kind or block.kind in NOTES
    if block.kind in ("not run", "prints", "file"):
        assert block.argument, "say why, what, or which file"


@pytest.mark.parametrize("page", named([ROOT / "README.md", ROOT / "CONTRIBUTING.md"]))
def test_links_outside_the_site_lead_somewhere(page: Path) -> None:
    links = [link for link in _LINK.findall(page.read_text(encoding="utf-8")) if "://" not in link]
    assert links
    assert [link for link in links if not (page.parent / link).exists()] == []


@pytest.mark.parametrize("page", named([page for page in PAGES if page.name != "CONTRIBUTING.md"]))
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert [name for name in files_named(page) if not (ROOT / name).exists()] == []


def files_named(page: Path) -> list[str]:
    """Paths of the repository in inline code, and those in the README's tree."""
    text = page.read_text(encoding="utf-8")
    found = _FILE.findall(text)
    if page == ROOT / "README.md":
        (tree,) = (block.text for block in blocks_of(page) if not block.language)
        for line in tree.splitlines():
            words = line.split()
            if not line.startswith(" "):
                folder, *words = words
                found.append(folder)
            found += [folder + word for word in words if re.fullmatch(r"[a-z_/]+(/|\.py)", word)]
        assert len(found) > 20
    return [name for name in found if not name.startswith(("runs/", "data/"))]


def test_the_readme_stays_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 150


# ---------------------------------------------------------------------- commands that are not run


@pytest.fixture(scope="module")
def helps() -> dict[str, str]:
    """The help of every command that a page names, and of the command above it."""
    wanted = set()
    for page in PAGES:
        for module, words in commands_of(page):
            wanted.add(module)
            path = [word for word in words[:2] if re.fullmatch(r"[a-z][\w-]*", word)]
            wanted |= {" ".join([module, *path[:count]]) for count in range(1, len(path) + 1)}
            wanted.add(f"{module} {DEFAULT_COMMAND.get(module, '')}".strip())
    done = subprocess.run(
        [sys.executable, "-m", "tests.docs.show_help"],
        input=json.dumps(sorted(wanted)),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def resolved(module: str, words: list[str], helps: dict[str, str]) -> str:
    """``module`` and the commands in ``words``, as keys of ``helps``. Raises LookupError for unknown ones."""
    command = module
    for word in words:
        offered = _COMMAND_LINE.findall(helps[command].partition("Commands:")[2])
        if word not in offered:
            if offered and command == module:
                if module not in DEFAULT_COMMAND:
                    raise LookupError(f"{module} has no command {word}")
                command = f"{module} {DEFAULT_COMMAND[module]}"
            break
        command = f"{command} {word}"
    return command


@pytest.mark.parametrize("page", named(WITH_COMMANDS))
def test_commands_and_options_exist(page: Path, helps: dict[str, str]) -> None:
    unknown = []
    for module, words in commands_of(page):
        options = {word.partition("=")[0] for word in words if re.match(r"--[a-z]", word)}
        command = resolved(module, words, helps) if words and words[0] != "--help" else module
        text = helps[command]
        assert "Usage:" in text or "usage:" in text, f"{command}: {text}"
        unknown += [f"{command} {option}" for option in options if not re.search(rf"{option}\b(?!-)", text)]
    assert unknown == []


# ---------------------------------------------------------------------- data


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "json"], ids=str)
def test_records_can_be_read(block: Block) -> None:
    records = list(values(block.text))
    assert records
    for record in records:
        line = json.dumps(record)
        if "answers" in record:
            assert parse_annotation(line, block.page, 1).answers
        elif "responses" in record and "type" not in record:
            assert parse_prediction(line, block.page, 1).responses
        else:
            assert list(record) == list(event_like(record))


def values(text: str) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    while text := text.strip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


def event_like(record: dict[str, Any]) -> Event:
    """The event that a live stream gives in the same situation."""
    make = EventMaker(record["stream"])
    if record["type"] in ("response", "delegation"):
        values = {field.name: record[field.name] for field in fields(Response) if field.name in record}
        return make.response(Response(**values, delegation=record["type"] == "delegation"))
    if record["type"] == "stream":
        return make.state(record["state"], record["cause"], 1.0)
    if record["type"] == "query":
        return make.query(record["action"], record["query"], record["text"], 1.0)
    fixed = ("type", "id", "stream", "time", "wall_time")
    return make.stats(1.0, {key: value for key, value in record.items() if key not in fixed}, {})


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "toml"], ids=str)
def test_toml_is_accepted(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tomllib.loads(block.text)
    if block.kind == "file" and block.argument != "edge-run.toml":
        return  # a command of its page reads it
    path = tmp_path / (block.argument or "recipe.toml")
    path.write_text(block.text, encoding="utf-8")
    if block.kind == "not run":  # what it needs is not here; its keys can be read
        assert load_config(path).cameras
        return
    if block.kind == "file":
        shutil.copy(SAMPLE, tmp_path / "clip.mp4")
        check_configuration(path, tmp_path)
        return
    pytest.importorskip("torch")
    if block.kind == "comparison":
        from train.ablation.plan import load_comparison, trials

        monkeypatch.chdir(ROOT)
        assert list(trials(load_comparison(path), path, tmp_path / "out"))
        return
    if block.kind == "recipe part of grpo":
        from train.grpo.recipe import load_grpo_recipe

        path.write_text(
            f'init = "in"\noutput = "out"\n[data]\ntrain = [{{path = "a.jsonl"}}]\n{block.text}',
            encoding="utf-8",
        )
        assert load_grpo_recipe(path).output
        return
    from train.sft.recipe import load_recipe

    if block.kind == "recipe part":
        path.write_text(
            f'output = "out"\n[data]\ntrain = [{{path = "a.jsonl"}}]\n{block.text}', encoding="utf-8"
        )
    assert load_recipe(path).output


def test_the_shown_configuration_is_valid(tmp_path: Path) -> None:
    check_configuration(ROOT / "docs" / "edge-run.toml", tmp_path)


def check_configuration(path: Path, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edge_runtime", "check", "--config", str(path), "--json"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr


# ---------------------------------------------------------------------- blocks that are run


def environment(folder: Path) -> dict[str, str]:
    """``edge-run`` and ``python`` are this checkout's; nothing of the user's configuration is read."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    pip = f'"{ROOT / "tests" / "docs" / "install.py"}"'  # without a network and in the page's folder
    for name, line in (("edge-run", "-m edge_runtime"), ("python", ""), ("pip", pip)):
        tool = tools / name
        tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" {line} "$@"\n', encoding="utf-8")
        tool.chmod(0o755)
    if shutil.which("espeak-ng") is None:  # of a page's example; a check asks whether it is there
        (tools / "espeak-ng").symlink_to("/bin/true")
    path = os.pathsep.join([str(tools), str(Path(sys.executable).parent), os.environ["PATH"]])
    extra = {
        "PATH": path,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder / "site")]),
        "HOME": str(folder),
        "ALERTS_SECRET": "whsec_" + "A" * 44,
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith("XDG_CONFIG")}
    return {**kept, **extra, "XDG_STATE_HOME": str(folder / "state")}


@pytest.mark.gst
@pytest.mark.parametrize("page", named(RUN, MARKS))
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gi")
    shutil.copy(SAMPLE, tmp_path / "clip.mp4")
    monkeypatch.chdir(tmp_path)
    port = free_port()
    names: dict[str, Any] = {"frames": frames_of(tmp_path / "clip.mp4")}
    for block in blocks_of(page):
        block = replace(block, text=block.text.replace(CAMERA, "clip.mp4").replace(PORT, port))
        if block.kind == "file":
            file = tmp_path / block.argument
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text, encoding="utf-8")
        elif block.run and block.language == "sh":
            assert block.argument in run_shell(block, tmp_path)
        elif block.run:
            if "watcher" in names:  # that of the block before has watched the clip to its end
                names["watcher"] = edge_runtime.watch("nano")
                names["watcher"].ask("Tell me everything that happens.")
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                exec(compile(block.text, str(block), "exec"), names)
            assert block.argument in printed.getvalue()


def run_shell(block: Block, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def frames_of(clip: Path) -> Iterator[tuple[float, Any]]:
    """What the README calls ``frames``."""
    from pipelines.camera import Frame, open_camera

    with open_camera(clip) as camera:
        for item in camera:
            if isinstance(item, Frame):
                yield item.pts, item.image
