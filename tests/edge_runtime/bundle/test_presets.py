"""The presets that come with the project, and presets and prompts from files."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_runtime.bundle.presets import load_preset, preset_names
from edge_runtime.errors import ConfigError


def test_the_presets_can_all_be_read():
    assert preset_names() == ["aura", "joyai", "mmduet2", "onestreamer", "prompted", "smolvlm", "streampro"]
    for name in preset_names():
        preset = load_preset(name)
        assert preset.name == name and preset.stream_format.system_prompt and preset.licence
    assert load_preset("streampro").stream_format.is_basic


def test_the_system_prompt_may_come_from_a_file(tmp_path):
    file = tmp_path / "prompt.txt"
    file.write_text("Watch the {door}.\n")
    changed = load_preset("joyai").with_prompt(file, 77)
    assert (changed.system_prompt, changed.frame_tokens) == ("Watch the {door}.", 77)
    file.write_text(" \n")
    with pytest.raises(ConfigError, match="is empty"):
        load_preset("joyai").with_prompt(file, 77)
    with pytest.raises(ConfigError, match=r"nowhere\.txt: No such file"):
        load_preset("joyai").with_prompt(tmp_path / "nowhere.txt", 77)


def edited(tmp_path: Path, old: str, new: str) -> str:
    from edge_runtime.bundle import presets

    text = (Path(presets.__file__).parent / "joyai.toml").read_text()
    assert old in text
    (tmp_path / "mine.toml").write_text(text.replace(old, new))
    return str(tmp_path / "mine.toml")


def test_a_preset_of_ones_own(tmp_path):
    mine = load_preset(edited(tmp_path, "window_turns = 150", "window_turns = 77"))
    assert (mine.name, mine.stream_format.window_turns) == ("mine", 77)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[format]", "[format]\nwindows = 3", "format.windows is unknown"),
        ("window_turns = 150", 'window_turns = "150"', "format.window_turns must be"),
        ("first_line = true", "first_line = 1", "format.first_line must be"),
        ('licence = "Apache-2.0"', "", "licence is missing"),
        ("{image}", "", "must hold {image} 1 times"),
        ("{query}", "{question}", "holds {question}, which nothing fills"),
        ("{query}", "", "turn_head is for such templates alone"),
        ("fps = 1.0", "fps 1.0", "not TOML"),
    ],
)
def test_a_preset_that_cannot_be_used_is_refused_in_one_line(tmp_path, old, new, words):
    with pytest.raises(ConfigError) as caught:
        load_preset(edited(tmp_path, old, new))
    assert words in str(caught.value) and "mine.toml" in str(caught.value)


def test_an_unknown_preset_names_the_others():
    with pytest.raises(ConfigError, match="unknown; choose one of aura, joyai"):
        load_preset("gpt")
