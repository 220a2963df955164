"""What a command line means: sources, and options on top of edge-run.toml."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from edge_runtime.app.config_file import Config, find_config
from edge_runtime.app.run.run_config import CliOptions, make_run_config
from edge_runtime.bundle.default import DEFAULT_BUNDLE
from edge_runtime.errors import ConfigError

FILE = """
[runtime]
threads = 3
[[camera]]
name = "door"
source = "rtsp://192.0.2.7/stream"
fps = 2
min_gap = 4
mask = [[[0, 0], [1, 0], [1, 1]]]
transport = "udp"
[[camera.ask]]
text = "Who rings?"
threshold = 0.7
[[camera]]
name = "hall"
source = "test:"
[[camera.ask]]
text = "Who goes?"
"""


@pytest.fixture
def settings(tmp_path: Path) -> Config:
    (tmp_path / "edge-run.toml").write_text(FILE)
    return find_config(tmp_path / "edge-run.toml")


def test_each_camera_keeps_its_own_settings(settings):
    config = make_run_config(CliOptions(("hall", "door")), settings)
    hall, door = config.cameras
    assert (hall.name, hall.fps, [ask.text for ask in hall.queries]) == ("hall", None, ["Who goes?"])
    assert (door.fps, door.options.transport, len(door.options.framing.masks)) == (2.0, "udp", 1)
    assert (door.queries[0].policy.threshold, door.queries[0].policy.min_gap_s) == (0.7, 4.0)
    assert config.runtime.threads == 3 and config.path == settings.path


def test_the_command_line_holds_for_every_camera(settings):
    mask = ((0.0, 0.0), (0.5, 0.0), (0.5, 0.5))
    options = CliOptions(
        ("door", "hall", "test:snow"),
        queries=("What happens?",),
        ask_at=(3.0,),
        fps=5.0,
        masks=(mask,),
        policy={"threshold": 0.2},
        source_options={"transport": "tcp"},
        runtime={"threads": 1},
    )
    config = make_run_config(options, settings)
    for camera in config.cameras:
        assert [(ask.text, ask.at, ask.policy.threshold) for ask in camera.queries] == [
            ("What happens?", 3.0, 0.2)
        ]
        assert (camera.fps, camera.options.transport, camera.options.decoder) == (5.0, "tcp", None)
        assert camera.options.framing.masks[-1] == mask
    assert [len(camera.options.framing.masks) for camera in config.cameras] == [2, 1, 1]
    assert [camera.queries[0].policy.min_gap_s for camera in config.cameras] == [4.0, 0.0, 0.0]
    assert (config.runtime.threads, config.runtime.bundle) == (1, DEFAULT_BUNDLE)
    assert config.cameras[2].name == "" and config.cameras[2].source == "test:snow"


def test_mistakes_are_refused(settings):
    with pytest.raises(click.UsageError, match="a source is missing"):
        make_run_config(CliOptions(()), settings)
    with pytest.raises(click.UsageError, match="hall is given twice"):
        make_run_config(CliOptions(("hall", "door", "hall")), settings)
    secret = "rtsp://viewer:hunter2@192.0.2.7/stream"
    with pytest.raises(click.UsageError, match="one address is given twice"):
        make_run_config(CliOptions((secret, secret), queries=("What?",)), settings)
    with pytest.raises(ConfigError, match=r"dor: .*did you mean door"):
        make_run_config(CliOptions(("hall", "dor")), settings)
    with pytest.raises(click.UsageError, match="nothing to watch for"):
        make_run_config(CliOptions(("hall", "test:")), settings)


SECURE = """
[[camera]]
name = "gate"
source = "rtsps://192.0.2.8/stream"
tls_fingerprint = "{}"
[[camera.ask]]
text = "Who comes?"
[[camera]]
name = "yard"
source = "HTTPS://192.0.2.9/live"
tls_ca_file = "ca.pem"
[[camera.ask]]
text = "Who comes?"
"""


def trust(camera) -> tuple[bool | None, Path | None, str | None]:
    return camera.options.tls_verify, camera.options.tls_ca_file, camera.options.tls_fingerprint


def test_tls_of_the_command_line_stands_in_place_of_the_files(tmp_path):
    """A fingerprint beside the file's ``tls_verify = false`` would be given in vain."""
    file = tmp_path / "edge-run.toml"
    file.write_text(SECURE.format("sha256:" + "Ab:" * 31 + "AB"))
    settings = find_config(file)
    gate, yard = make_run_config(CliOptions(("gate", "yard")), settings).cameras
    assert trust(gate) == (None, None, "ab" * 32) and trust(yard) == (None, tmp_path / "ca.pem", None)
    options = CliOptions(("gate", "yard"), source_options={"tls_verify": False})
    assert [trust(camera) for camera in make_run_config(options, settings).cameras] == [
        (False, None, None)
    ] * 2
    options = CliOptions(("gate", "yard"), source_options={"tls_fingerprint": "0" * 64})
    assert [trust(camera) for camera in make_run_config(options, settings).cameras] == [
        (None, None, "0" * 64)
    ] * 2
    for options, words in (
        ({"tls_verify": False, "tls_fingerprint": "0" * 64}, "accepts any certificate"),
        ({"tls_ca_file": Path("ca.pem"), "tls_fingerprint": "0" * 64}, "not both"),
    ):
        with pytest.raises(click.UsageError, match=words):
            make_run_config(CliOptions(("gate",), source_options=options), settings)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ('tls_fingerprint = "AB:CD"', "64 hexadecimal digits"),
        (f'tls_fingerprint = "{"0" * 64}"\ntls_ca_file = "ca.pem"', "tls_ca_file"),
        ('tls_verify = false\ntls_ca_file = "ca.pem"', "would accept any certificate"),
        ("tls_verify = 0", "tls_verify"),
    ],
)
def test_tls_that_cannot_be_meant_is_refused(tmp_path, lines, words):
    file = tmp_path / "edge-run.toml"
    file.write_text(f'[[camera]]\nname = "gate"\nsource = "rtsps://192.0.2.8/stream"\n{lines}\n')
    with pytest.raises(ConfigError, match=words):
        find_config(file)


def test_tls_of_a_source_without_it_is_refused(tmp_path):
    file = tmp_path / "edge-run.toml"
    file.write_text('[[camera]]\nname = "gate"\nsource = "rtsp://192.0.2.8/stream"\ntls_verify = false\n')
    with pytest.raises(ConfigError, match=r"tls_verify: it is for rtsps:// and https:// sources alone"):
        find_config(file)
