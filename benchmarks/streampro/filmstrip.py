"""Draws what a model saw, decided and said on one clip: frames, the score over time, responses.

python -m benchmarks.streampro.filmstrip --bundle nano --clip clip.mp4 --ask "..." --out strip.png
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from pathlib import Path

import av
import click
import numpy as np
from numpy.typing import NDArray

import edge_runtime
from edge_runtime.command_line.exit import run_command
from edge_runtime.engine.decision import Decision
from edge_runtime.engine.model import Model
from edge_runtime.errors import EdgeError
from edge_runtime.video.sampling import TimestepSampler

COLUMNS = 12


@dataclass(frozen=True)
class Watched:
    """A timestep: the frame it was decided on (uint8 [H, W, 3]) and the decision."""

    frame: NDArray[np.uint8]
    decision: Decision


def watch(model: Model, clip: Path, question: str, at: float) -> list[Watched]:
    """Run ``model`` over ``clip`` with ``question`` asked at ``at`` seconds. Raises EdgeError or OSError."""
    seen: list[Watched] = []
    sampler = TimestepSampler(model.stream_format.fps)
    vision = model.open_vision()
    with model.session() as session, av.open(str(clip)) as container:
        for decoded in container.decode(video=0):
            index = sampler.take(decoded.time)
            if index is None:
                continue
            if not session.queries and model.stream_format.interval(index)[1] >= at:
                session.ask(question)
            frame = decoded.to_ndarray(format="rgb24")
            seen.append(Watched(frame, session.push_tokens(vision.see(frame), index)))
    return seen


def draw(seen: list[Watched], question: str, threshold: float, out: Path) -> None:
    """Write the image (format by the ending of ``out``)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    spoken = [w for w in seen if w.decision.response]
    shown = spoken[:COLUMNS] or seen[:: max(1, len(seen) // COLUMNS)][:COLUMNS]
    figure = plt.figure(figsize=(max(8.0, 1.75 * len(shown)), 4.6), constrained_layout=True)
    grid = figure.add_gridspec(2, len(shown), height_ratios=[1.5, 1])
    figure.suptitle(f"“{question}”", fontsize=13)
    for i, w in enumerate(shown):
        axes = figure.add_subplot(grid[0, i])
        axes.imshow(w.frame)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.set_title(f"{w.decision.time:g} s", fontsize=10)
        axes.set_xlabel(textwrap.fill(w.decision.text or "", 18), fontsize=10)
    axes = figure.add_subplot(grid[1, :])
    times = [w.decision.time for w in seen]
    axes.step(times, [w.decision.score for w in seen], where="mid", color="#35608d")
    axes.axhline(threshold, color="#888888", linestyle=":", linewidth=1)
    for w in spoken:
        axes.axvline(w.decision.time, color="#d1495b", alpha=0.5)
    axes.set(xlabel="time (s)", ylabel="score of </Response>", ylim=(-0.03, 1.03), xlim=(0, times[-1] + 1))
    figure.savefig(out, dpi=110)
    plt.close(figure)


@click.command()
@click.option("--bundle", default="nano", show_default=True)
@click.option("--clip", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True)
@click.option("--ask", "question", required=True)
@click.option("--ask-at", "at", type=float, default=0.0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
def main(bundle: str, clip: Path, question: str, at: float, out: Path) -> None:
    """Draw a clip's frames, scores and responses."""
    try:
        model = edge_runtime.load(bundle)
        seen = watch(model, clip, question, at)
        if not seen:
            raise click.ClickException(f"{clip}: shorter than one timestep")
        draw(seen, question, model.stream_format.threshold, out)
    except (EdgeError, OSError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    run_command(main)
