"""The clip that comes with the program, and the configuration file to start from."""

from pathlib import Path

SAMPLE = "sample"
"""The source that means this clip, with its queries."""
SAMPLES = Path(__file__).parents[1] / "samples"
