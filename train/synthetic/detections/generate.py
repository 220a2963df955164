"""Write a data set in detection space: questions as annotations, clips as the features a detector would give.

``clips/NAME.npy`` holds float16 [T, K + 1, F], one row of slots for every timestep; ``annotations.jsonl``
names it where other data sets name a video. ``captions.jsonl``, of the split ``train`` alone, asks for a
caption of every second (:mod:`train.synthetic.detections.captions`), and beside its clips lie labels of what
each second shows (:mod:`train.synthetic.detections.event_labels`). The same seed gives the same files, and a
run that was stopped goes on where it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.metric.annotations import dump_line
from benchmarks.metric.progress import Progress
from edge_runtime.atomic_write import whole_file
from train.models.checkpoint import KNOWLEDGE
from train.models.perception.detections import Detections
from train.models.perception.features import describe, width
from train.models.perception.nanodet import CLASSES
from train.models.perception.tracker import Slots, TrackerConfig, track
from train.models.perception.zones import no_zones
from train.synthetic.detections.captions import captions
from train.synthetic.detections.detector import detect
from train.synthetic.detections.event_labels import event_labels, labels_beside
from train.synthetic.detections.facts import Facts, Question
from train.synthetic.detections.knowledge import write_knowledge
from train.synthetic.detections.questions import ask_all
from train.synthetic.detections.scene import look
from train.synthetic.detections.stories import tell
from train.synthetic.detections.stories.stage import UNSEEN, USUAL
from train.synthetic.detections.zone_questions import ask_zones
from train.synthetic.detections.zones import Zones, draw_zones
from train.synthetic.sprites.rubrics import write_rubric

SPLITS = ("train", "validation", "test", "paraphrase", "hard", "layouts")
_BLOCK = 50
"""Clips that are tracked together."""


@dataclass(frozen=True)
class GenerateConfig:
    """``count`` clips of a ``split`` into the folder ``out``; ``fps``: timesteps a second."""

    split: str
    seed: int
    count: int
    out: Path
    fps: float = 1.0

    def rng(self, index: int) -> np.random.Generator:
        """Random numbers of one clip; no two clips or splits share a stream."""
        return np.random.default_rng([2605, SPLITS.index(self.split), self.seed, index])

    def zones_rng(self, index: int) -> np.random.Generator:
        """Those of the clip's zones, apart from the others: the story and what it sees stay as they are."""
        return np.random.default_rng([2605, SPLITS.index(self.split), self.seed, index, 1])


def generate(config: GenerateConfig, workers: int = 1) -> Path:
    """Write the data set; returns the annotation file. Raises OSError when the folder cannot be written."""
    (config.out / "clips").mkdir(parents=True, exist_ok=True)
    starts = range(0, config.count, _BLOCK)
    records: list[dict[str, Any]] = []
    with ProcessPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        blocks = pool.map(_write_block, [config] * len(starts), starts)
        with Progress(config.count, config.split, unit="clip") as progress:
            for start, block in zip(starts, blocks, strict=True):
                records += block
                progress.advance(min(_BLOCK, config.count - start))
    if config.split == "train":
        _write(config.out / "captions.jsonl", [one for one in records if one["kind"] == "captions"])
    with whole_file(config.out / KNOWLEDGE) as temporary:
        write_knowledge(temporary)
    path = config.out / "annotations.jsonl"
    _write(path, [one for one in records if one["kind"] != "captions"])
    return path


def _write(path: Path, records: list[dict[str, Any]]) -> None:
    with whole_file(path) as temporary, open(temporary, "w", encoding="utf-8") as file:
        file.writelines(dump_line(record) for record in records)


def _write_block(config: GenerateConfig, start: int) -> list[dict[str, Any]]:
    indices = range(start, min(start + _BLOCK, config.count))
    records: list[dict[str, Any]] = []
    seen: list[Detections] = []
    light: list[NDArray[np.float32]] = []
    grids: list[NDArray[np.float32]] = []
    paths: list[Path] = []
    for index in indices:
        rng = config.rng(index)
        family, scene = tell(rng, UNSEEN if config.split == "layouts" else USUAL)
        view = look(scene)
        facts = Facts.of(family, scene, view)
        name = f"{config.split}-{config.seed}-{index:06d}"
        questions = _questions(config.split, rng, facts)
        zones_rng = config.zones_rng(index)
        zones = draw_zones(zones_rng, facts)
        if zones is not None:
            questions += _zone_questions(config.split, zones_rng, facts, zones)
        records += _records(name, facts, questions)
        if config.split == "train":
            records += _records(f"{name}/captions", facts, [captions(facts)], name)
            labels = labels_beside(config.out / "clips" / f"{name}.npy")
            if not labels.exists():
                _save(labels, event_labels(facts))
        path = config.out / "clips" / f"{name}.npy"
        if not _is_whole(path):
            times = np.arange(1, int(scene.duration * config.fps) + 1) / config.fps
            seen.append(detect(rng, scene, times, TrackerConfig().slots, view=view))
            brightness = scene.brightness.at(times)[:, 0] + rng.normal(0, 0.01, len(times))
            light.append(brightness.clip(0, 1).astype(np.float32))
            grids.append(no_zones()[0].numpy() if zones is None else zones.grid())
            paths.append(path)
    if paths:
        for path, features in zip(paths, follow(seen, light, grids), strict=True):
            _save(path, features)
    return records


def _save(path: Path, array: NDArray[Any]) -> None:
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, array, allow_pickle=False)


def _is_whole(path: Path) -> bool:
    """Whether the clip is there, with features as they are now: those of an earlier version are narrower."""
    try:
        return bool(np.load(path, mmap_mode="r", allow_pickle=False).shape[-1] == width(len(CLASSES)))
    except FileNotFoundError:
        return False


def follow(
    clips: list[Detections], brightness: list[NDArray[np.float32]], zones: list[NDArray[np.float32]]
) -> Iterator[NDArray[np.float16]]:
    """Detections of clips [T, D, ...], T different in each, to features [T, K + 1, F]; clips side by side.

    ``brightness`` [T] and ``zones`` [Z, G, G] of each clip.
    """
    config = TrackerConfig()
    lengths = [len(light) for light in brightness]
    slots = Slots.empty(len(clips), config.slots, len(CLASSES))
    grids = torch.from_numpy(np.stack(zones))
    rows = []
    with torch.no_grad():
        for t in range(max(lengths)):
            now = [clip_at(clip, min(t, n - 1)) for clip, n in zip(clips, lengths, strict=True)]
            seen = Detections(*(torch.stack(parts) for parts in zip(*now, strict=True)))
            light = torch.tensor([b[min(t, n - 1)] for b, n in zip(brightness, lengths, strict=True)])
            slots = track(seen, slots, config)
            rows.append(describe(slots, light, grids).half())
    features = torch.stack(rows, dim=1).numpy()  # [clips, T, K + 1, F]
    for index, length in enumerate(lengths):
        yield features[index, :length]


def clip_at(clip: Detections, t: int) -> tuple[torch.Tensor, ...]:
    """The detections of one frame of a clip."""
    return clip.boxes[t], clip.scores[t], clip.colours[t]


def _questions(split: str, rng: np.random.Generator, facts: Facts) -> list[Question]:
    if split == "hard":
        return [question for question in ask_all(rng, facts, most=0, quiet=6) if question.hard]
    quiet = 4 if split == "train" else 2
    return ask_all(rng, facts, most=6, quiet=quiet, paraphrase=split == "paraphrase")


def _zone_questions(split: str, rng: np.random.Generator, facts: Facts, zones: Zones) -> list[Question]:
    if split == "hard":
        return [question for question in ask_zones(rng, facts, zones, most=0, quiet=1.3) if question.hard]
    return ask_zones(rng, facts, zones, most=1, quiet=1.0, paraphrase=split == "paraphrase")


def _records(prefix: str, facts: Facts, questions: list[Question], clip: str = "") -> list[dict[str, Any]]:
    """Annotations of a clip, which ``prefix`` is the name of unless ``clip`` is."""
    return [
        {
            "id": f"{prefix}/q{number}",
            "video": f"clips/{clip or prefix}.npy",
            "duration": facts.scene.duration,
            "task": question.task,
            "query": {"time": question.time, "text": question.text},
            "answers": [
                {
                    "start": answer.start,
                    "end": answer.end,
                    "text": answer.text,
                    "keywords": [list(group) for group in answer.keywords],
                }
                for answer in question.answers
            ],
            "rubric": write_rubric([answer.text for answer in question.answers]) if question.answers else [],
            "kind": question.kind,
            "hard": question.hard,
            "about": list(question.about),
        }
        for number, question in enumerate(questions, start=1)
    ]
