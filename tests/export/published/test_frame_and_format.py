"""The frame of a published model, and the facts of its stream format."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.bundle.published import default_frame
from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import BundleError, ConfigError
from export.errors import ExportError
from export.published.frame_size import parse_frame
from export.published.stream_formats import read_stream_format


@pytest.mark.parametrize(
    ("text", "cell", "size"),
    [
        ("16:9@224", 32, (224, 384)),
        ("16:9@224", 28, (224, 392)),
        ("4:3@448", 32, (448, 608)),
        ("9:16@224", 32, (384, 224)),
        ("1:1@10", 32, (32, 32)),
        ("384x224", 32, (224, 384)),
    ],
)
def test_a_frame_has_the_aspect_of_the_camera(text: str, cell: int, size: tuple[int, int]) -> None:
    assert parse_frame(text).fitted(cell) == size


@pytest.mark.parametrize("text", ["", "224", "16:9", "0:9@224", "16:0@224", "16:9@", "axb", "16:9@224px"])
def test_what_is_no_frame_is_refused(text: str) -> None:
    with pytest.raises(ExportError, match="16:9@224"):
        parse_frame(text)


def test_an_exact_size_must_fit_the_model() -> None:
    with pytest.raises(ExportError, match=r"multiples of 32 pixels; the nearest is 384x224"):
        parse_frame("390x224").fitted(32)


def test_a_file_changes_facts_of_the_chat_format(tmp_path: Path) -> None:
    chat, file = StreamFormat(frame_tokens=84), tmp_path / "facts.toml"
    assert read_stream_format("streampro", chat) == chat
    file.write_text('silence = "No"\nresponse = "Yes"\nfps = 2\n')
    changed = read_stream_format(str(file), chat)
    assert (changed.silence, changed.response, changed.fps) == ("No", "Yes", 2)
    assert changed.frame_tokens == 84 and changed.turn_template == chat.turn_template


@pytest.mark.parametrize("name", ["streampro", "prompted", "FILE"])
def test_a_file_takes_the_place_of_the_system_prompt(tmp_path: Path, name: str) -> None:
    chat, prompt, facts = StreamFormat(frame_tokens=84), tmp_path / "prompt.txt", tmp_path / "facts.toml"
    prompt.write_text("Speak only of dogs.\n")
    facts.write_text("fps = 2\n")
    made = read_stream_format(str(facts) if name == "FILE" else name, chat, prompt)
    assert (made.system_prompt, made.frame_tokens) == ("Speak only of dogs.", 84)
    with pytest.raises(ConfigError, match=r"none\.txt"):
        read_stream_format(name if name != "FILE" else str(facts), chat, tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ("quiet = 1", "quiet is no key of a stream format"),
        ("frame_tokens = 9", "frame_tokens follows from --frame"),
        ("silence = 3", "silence is 3, expected the kind of"),
        ("threshold = 7.0", "threshold must lie in 0..1"),
        ("silence = ", "cannot be read as TOML"),
    ],
)
def test_a_file_with_a_mistake_is_named(tmp_path: Path, facts: str, said: str) -> None:
    file = tmp_path / "facts.toml"
    file.write_text(facts)
    with pytest.raises(ExportError, match=said):
        read_stream_format(str(file), StreamFormat())


def test_an_unknown_preset_is_refused() -> None:
    with pytest.raises(ExportError, match="--format joy: neither a preset"):
        read_stream_format("joy", StreamFormat())


def test_a_tower_of_one_size_chooses_the_frame() -> None:
    assert default_frame({"model_type": "qwen3_vl", "vision_config": {"image_size": 64}}) == "16:9@224"
    assert default_frame({"model_type": "smolvlm", "vision_config": {"image_size": 512}}) == "512x512"
    for vision in (None, {}, {"image_size": [512, 512]}):
        with pytest.raises(BundleError, match=r"vision_config\.image_size is .*, expected pixels"):
            default_frame({"model_type": "smolvlm", "vision_config": vision})
