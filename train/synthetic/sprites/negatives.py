"""Questions about what never happens in a clip: the only right answer is silence.

They are phrased like those that have answers, about actors and objects that the clip never shows, or about
dangers where there is none. To measure how often a model speaks for nothing, and to teach it not to.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edge_runtime.atomic_write import write_whole
from train.synthetic.sprites.generate import clip_name, make_story
from train.synthetic.sprites.questions import phrase, query_time
from train.synthetic.sprites.scenes import catalog
from train.synthetic.sprites.scenes.stage import VERBS, Story


def negative_questions(rng: np.random.Generator, story: Story, clip: str, video: str) -> list[dict[str, Any]]:
    """Annotation records without answers, one of every task about which ``story`` holds nothing."""
    records = []
    for i, (task, text) in enumerate(_asked(rng, story), start=1):
        records.append(
            {
                "id": f"{clip}/s{i}",
                "video": video,
                "duration": story.scene.duration,
                "task": task,
                "query": {"time": query_time(rng), "text": text},
                "answers": [],
                "rubric": [
                    {
                        "rubric_id": 0,
                        "dimension": "coverage",
                        "rubric": "Nothing may be told: what was asked for does not happen.",
                        "check": {"kind": "at_most", "count": 0},
                    }
                ],
                "world": {"family": story.family},
            }
        )
    return records


def write_negatives(split: str, seed: int, count: int, out: Path) -> int:
    """Write such questions on the first ``count`` clips of a split, which lie in ``clips`` beside ``out``.

    Returns how many. Raises SinkError.
    """
    records: list[dict[str, Any]] = []
    for index in range(count):
        clip = clip_name(split, seed, index)
        rng, story = make_story(seed, index, split)
        records += negative_questions(rng, story, clip, f"clips/{clip}.mp4")
    write_whole(out, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    return len(records)


def _asked(rng: np.random.Generator, story: Story) -> Iterator[tuple[str, str]]:
    """(task, question)."""
    shown = {actor.name for actor in story.scene.actors}

    def absent(names: dict[str, str] | dict[str, dict[str, str]]) -> str:
        return str(rng.choice([name for name in names if name not in shown]))

    if story.family != "walk":
        yield "EU", phrase(rng, "EU", subject=absent(catalog.ACTORS))
        subject = absent(catalog.ACTORS)
        verb = str(rng.choice(list(VERBS.values())))
        yield "TP", phrase(rng, "TP", event=f"The {subject} {verb}.")
        yield "TG", phrase(rng, "TG-view", subject=absent(catalog.ACTORS))
        if not story.anomalies:
            yield "AA", phrase(rng, "AA")
    yield "OU", phrase(rng, "OU", subject=absent(catalog.STATEFUL))
