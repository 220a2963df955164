"""GStreamer's error codes in words. The codes are those its elements really post."""

from __future__ import annotations

import pytest

from pipelines.sources.base import Source
from pipelines.sources.errors import Problem, StreamError, explain, first_line, missing_plugin
from pipelines.sources.file import FileSource
from pipelines.sources.rtsp.source import RtspSource, server_words
from pipelines.sources.test_pattern import TestSource
from pipelines.sources.v4l2.source import DeviceSource

R, S = "resource", "stream"
RTSP = RtspSource("rtsp://cam/live", "cam", 554)
CAM = DeviceSource(path="/dev/video0")
FILE = FileSource("clip.mp4")
LOST = StreamError("resource", 9, "Could not read.", delivered=True)


@pytest.mark.parametrize(
    ("source", "domain", "code", "text", "debug", "words", "kind"),
    [
        (RTSP, R, 15, "Unauthorized", "", "user name or password (401)", "auth"),
        (RTSP, R, 3, "Not found", "", "no such stream (404)", "transient"),
        (RTSP, R, 7, "Cannot open", "x: Service Unavailable (503)", "Service Unavailable (503)", "transient"),
        (RTSP, R, 7, "Could not open", "Unacceptable TLS certificate", "TLS certificate", "transient"),
        (RTSP, R, 9, "Could not read.", "", "broke off before any frame", "transient"),
        (RTSP, S, 1, "Internal data stream error.", "", "cannot be decoded", "transient"),
        (CAM, R, 4, "Device '/dev/video0' is busy", "", "busy", "transient"),
        (CAM, R, 7, "Cannot open", "system error: Device or resource busy", "busy", "transient"),
        (CAM, R, 7, "Cannot open", "system error: Permission denied", "no permission", "permanent"),
        (CAM, R, 3, "Device '/dev/video0' is not a capture device.", "", "gives no video", "transient"),
        (
            CAM,
            R,
            13,
            "Error getting capabilities: It isn't a v4l2 driver.",
            "",
            "gives no video",
            "transient",
        ),
        (CAM, R, 9, "Could not read from resource.", "", "camera stopped", "transient"),
        (CAM, S, 1, "Internal data stream error.", "", "no usable frame", "transient"),
        (FILE, S, 4, "Could not determine type of stream.", "", "not a video file", "permanent"),
        (
            FILE,
            S,
            9,
            "This file contains no playable streams.",
            "",
            "cannot read the file's structure",
            "permanent",
        ),
        (FILE, S, 7, "Could not decode", "", "cannot be decoded", "permanent"),
        (FILE, S, 12, "Encrypted", "", "encrypted", "permanent"),
        (FILE, R, 9, "Error while reading", "", "cannot be read", "permanent"),
        (
            TestSource(),
            "core",
            1,
            "Something new.\nmore",
            "",
            "GStreamer stopped: Something new",
            "transient",
        ),
    ],
)
def test_words(source: Source, domain: str, code: int, text: str, debug: str, words: str, kind: str) -> None:
    problem = explain(source, StreamError(domain, code, text, debug))
    assert words in problem.cause
    assert problem.kind == kind
    assert problem.hint
    assert "\n" not in problem.line(source.label)


def test_a_connection_lost_after_frames_is_said_so() -> None:
    assert explain(RTSP, LOST).cause == "the connection was lost"


def test_the_busy_camera_names_the_tool_that_finds_the_culprit() -> None:
    assert "fuser -v /dev/video0" in explain(CAM, StreamError("resource", 4, "busy")).hint


@pytest.mark.parametrize(
    ("media_type", "name", "package"),
    [
        ("video/x-h264", "H.264", "gstreamer1.0-libav"),
        ("video/x-h265", "H.265", "gstreamer1.0-libav"),
        ("video/x-av1", "AV1", "gstreamer1.0-plugins-bad"),
        ("video/x-matroska", "Matroska", "gstreamer1.0-plugins-good"),
        ("video/x-unheard-of", "Unheard codec", "gstreamer1.0-libav"),
    ],
)
def test_a_missing_plugin_names_codec_and_package(media_type: str, name: str, package: str) -> None:
    problem = missing_plugin(media_type, "Unheard codec")
    assert name in problem.cause
    assert f"apt-get install -y {package}" in problem.hint
    assert problem.kind == "permanent"


def test_a_line_holds_no_secret() -> None:
    line = Problem("cannot open rtsp://a:s3cret@h/x", "try rtsp://a:s3cret@h/y").line("rtsp://a:s3cret@h/x")
    assert "s3cret" not in line


def test_small_helpers() -> None:
    assert first_line("A.\nB") == "A"
    assert first_line("") == "no reason given"
    assert server_words("nothing here") == ""
