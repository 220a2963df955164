"""Requests, replies and frames of the Wait rule."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from edge_runtime.engine.endpoint.frames import EndpointFrames
from edge_runtime.engine.endpoint.protocol import is_new, read_answer, system_prompt


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("Wait", None),
        (" wait.\n", None),
        ("", None),
        ("<think>The door opens. I answer.</think>\nWait", None),
        ("<think>cut off while thin", None),
        ("<think>hm</think>The door is open.", "The door is open."),
        ("Wait until the light is green.", "Wait until the light is green."),
        ("The door is open.", "The door is open."),
    ],
)
def test_reply_is_wait_or_an_answer(reply: str, answer: str | None) -> None:
    assert read_answer(reply) == answer


def test_the_same_words_are_not_new() -> None:
    assert not is_new("The door is OPEN!", "the door is open")
    assert is_new("The door is shut.", "The door is open.") and is_new("Open.", None)


def test_prompt_says_how_often_frames_come() -> None:
    assert "one per second" in system_prompt() and "at every second" in system_prompt()
    assert "one every 0.5 seconds" in system_prompt(2.0)


def size(url: str) -> tuple[int, int]:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).size


def test_bars_of_the_letterbox_are_not_sent() -> None:
    frames = EndpointFrames(64)
    boxed = np.zeros((64, 64, 3), np.uint8)
    assert size(frames.encode(frames.preprocess(boxed))) == (64, 64)  # a black frame shows no bars
    boxed[14:50] = 200
    assert size(frames.encode(frames.preprocess(boxed))) == (64, 36)
    dark = boxed.copy()
    dark[14:30] = 0  # the upper half is dark: that is no bar
    assert size(frames.encode(frames.preprocess(dark))) == (64, 36)
    assert size(frames.encode(frames.preprocess(np.full((480, 640, 3), 9, np.uint8)))) == (64, 48)
