"""What a stream format makes of a generated text: what is said, and what is handed to another model."""

from __future__ import annotations

from edge_runtime.bundle.stream_format import StreamFormat


def split_response(stream_format: StreamFormat, text: str) -> tuple[str, str | None]:
    """What is said, and the task behind the first delegate marker; None without one.

    Blanks and the format's ``strip`` characters are cut from both ends of each.
    """
    if stream_format.first_line:
        text = text.strip().split("\n", 1)[0]
    places = [(text.find(marker), marker) for marker in stream_format.delegate if marker in text]
    task = None
    if places:
        at, marker = min(places)
        text, task = text[:at], _cut(stream_format, text[at + len(marker) :])
    return _cut(stream_format, text), task or None


def _cut(stream_format: StreamFormat, text: str) -> str:
    return text.strip(stream_format.strip + " \n\t") if stream_format.strip else text.strip()
