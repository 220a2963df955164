"""The clips that come with the program, and the configuration file to start from."""

from pathlib import Path

SAMPLE = "sample"
"""The source that means the clip of :func:`sample_clip`, with its queries."""
SAMPLES = Path(__file__).parents[1] / "samples"
_REAL = ("scout",)
"""Bundles that know real footage."""


def sample_clip(bundle: str) -> tuple[Path, Path]:
    """The clip that suits a bundle (its name or folder), and the JSON file of its queries.

    A street for one that knows real footage, else a generated clip.
    """
    name = "street" if Path(bundle).name in _REAL else "sample"
    return SAMPLES / f"{name}.mp4", SAMPLES / f"{name}.json"
