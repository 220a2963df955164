from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_runtime import redaction
from edge_runtime.errors import SourceError
from pipelines.sources.file import FileSource
from pipelines.sources.http.source import HttpSource
from pipelines.sources.registry import parse_source
from pipelines.sources.rtsp.source import RtspSource
from pipelines.sources.srt import SrtSource
from pipelines.sources.test_pattern import TestSource
from pipelines.sources.v4l2.source import DeviceSource


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("clip.mp4", FileSource("clip.mp4")),
        ("/data/a b.mkv", FileSource("/data/a b.mkv")),
        ("./camera0", FileSource("./camera0")),
        ("file:///data/a%20b.mkv", FileSource("/data/a b.mkv")),
        ("/dev/video2", DeviceSource(path="/dev/video2")),
        ("camera", DeviceSource(index=0)),
        ("camera3", DeviceSource(index=3)),
        ("test:", TestSource("ball")),
        ("test:snow", TestSource("snow")),
        ("rtsp://cam/live", RtspSource("rtsp://cam/live", "cam", 554)),
        ("RTSP://cam:8554/live?channel=1", RtspSource("rtsp://cam:8554/live?channel=1", "cam", 8554)),
        ("rtsps://cam/live", RtspSource("rtsps://cam/live", "cam", 322)),
        ("rtsp://[::1]:8554/live", RtspSource("rtsp://[::1]:8554/live", "::1", 8554)),
        ("rtsp://cam:8554/a@2x", RtspSource("rtsp://cam:8554/a@2x", "cam", 8554)),
    ],
)
def test_parse(text: str, source: object) -> None:
    assert parse_source(text) == source


@pytest.mark.parametrize(
    "word", ["sesame77", "p%40ss%2Fword", "a#b?c/d@e!", "x:y:z1", "50%off!", "%ff%zz", "ä b ü", "12a4/?#"]
)
def test_credentials_are_split_off_and_hidden(word: str) -> None:
    source = parse_source(f"rtsp://admin:{word}@cam.local:8554/live")
    assert isinstance(source, RtspSource)
    assert source.location == "rtsp://cam.local:8554/live"
    assert source.user == "admin"
    assert source.password == {"p%40ss%2Fword": "p@ss/word"}.get(word, word)
    for text in (repr(source), source.label, redaction.scrub(f"error near {word} and {source.password}")):
        assert word not in text
        assert source.password not in text


def test_secret_query_values_are_hidden_but_still_sent() -> None:
    source = parse_source("rtsp://cam/h264?user=admin&password=opensesame&channel=1")
    assert isinstance(source, RtspSource)
    assert "opensesame" in source.location
    assert "opensesame" not in source.label
    assert "channel=1" in source.label


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "source is empty"),
        ("test:nonsense", "no such pattern; use one of ball"),
        ("gopher://x/y", "gopher:// sources are not supported"),
        ("rtsp://", "no host"),
        ("rtsp://cam:99999/x", "write rtsp://host:port/path"),
        ("rtsp://u:hunter22@cam:port/x", "write rtsp://host:port/path"),
        ("rtsp://u:hunter22@[::1/x", "write rtsp://host:port/path"),
        ("http://[fe80::1/list.m3u8", "write http://host:port/path"),
        ("file://[::1/x.mp4", "write file:///path"),
        ("srt://[::1:9000", "write srt://host:port"),
        ("file://otherhost/x.mp4", "names a file on this machine"),
        ("clip\0.mp4", "source is empty"),
    ],
)
def test_refused_with_a_reason(text: str, words: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    message = str(caught.value)
    assert words in message
    assert "\n" not in message
    assert "hunter22" not in message
    assert caught.value.permanent
    assert caught.value.exit_code == 4


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://admin:1234/S3cret@host/cam",
        "rtsp://admin:1 2/S3cret@cam:port/x",
        "rtsp://admin:S3cret",
        "rstp://admin:1234/S3 cret@host/cam",
        "rtsp:/admin:S3cret@host/cam",
        "admin:1234/S3cret@host/cam",
        "file://admin:12/S3cret@host/cam.mp4",
        "srt://admin:S3cret@host:9000",
        "srt://host:9000?passphrase=abcdefg&S3cret",
        "srt://host?passphrase=a+b#S3cret@x&mode=caller",
    ],
)
def test_a_source_that_is_refused_shows_no_password(text: str) -> None:
    with pytest.raises(SourceError) as caught:
        parse_source(text)
    assert "S3" not in str(caught.value) and "cret" not in str(caught.value)
    assert "S3" not in redaction.scrub(f"error: {text}")


def test_a_passphrase_is_taken_as_it_is_written() -> None:
    source = parse_source("srt://host:9000?passphrase=a+b%20c%/?#@d&latency=200")
    assert isinstance(source, SrtSource)
    assert source.settings == (("passphrase", "a+b c%/?#@d"), ("latency", "200"))
    assert source.label == "srt://host:9000"


@settings(max_examples=300, deadline=None)
@given(
    st.text("aB1@:/?#%&=+. \"'\\ü", min_size=4, max_size=12), st.sampled_from(["rtsp", "https", "srt", "ftp"])
)
def test_no_password_is_shown_whatever_it_is(word: str, scheme: str) -> None:
    text = f"{scheme}://admin:{word}@cam.local:9000/Live"
    try:
        source = parse_source(text)
    except SourceError as error:
        assert str(error).startswith(f"{scheme}://***@cam.local:9000/Live: ")
    else:
        assert isinstance(source, (RtspSource, HttpSource))
        assert source.host == "cam.local"
        assert (source.label, source.location) == (f"{scheme}://cam.local:9000/Live",) * 2
    assert redaction.scrub(f"cannot open {text}.") == f"cannot open {scheme}://***@cam.local:9000/Live."
