"""Seconds as templates of a stream format write them."""

from __future__ import annotations

CLOCK = "clock"


def format_seconds(value: float) -> str:
    """Seconds as a label writes them: ``12`` for 12.0, ``12.5`` for 12.5, at most two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


class Seconds(float):
    """A time in a template: ``{start}`` as :func:`format_seconds`, ``{start:.1f}`` as Python formats numbers,
    ``{start:clock}`` as minutes and seconds (``01:05``).
    """

    def __format__(self, spec: str) -> str:
        if spec == CLOCK:
            return f"{int(self) // 60:02}:{int(self) % 60:02}"
        return super().__format__(spec) if spec else format_seconds(self)
