"""Stage 0 for decoders trained from scratch: teach the projector to put names and places into visual tokens.

The paper starts from backbones whose projector already speaks the decoder's language; `nano` has none. Here
every visual token is asked, by a linear reading, which sprites are centred in its region of the picture and
where, how large and how turned each is. Names are read against the embeddings of the words that say them, so
that seeing a thing and reading its name look alike to the decoder. No decoder runs, so an epoch takes a
minute or two where supervised training takes half an hour. The truth is the generated world's: clips are told
by their names.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from train.data.features import ClipFeatures, FeatureCache
from train.model.compact import CompactModel
from train.recipe import RecipeError
from train.world.catalog import sprite_table
from train.world.generate import SPLITS, make_story
from train.world.scene import SIZE

_CLIP_NAME = re.compile(rf"({'|'.join(SPLITS)})-(\d+)-(\d+)$")
_PLACE = 5
"""Numbers read for each sprite: x and y from its region's centre, log size, sine and cosine of its angle."""
_NEAR = 40.0
"""Pixels that count as 1 in a place."""
_SMALLEST = 20.0
"""Pixels below which a sprite need not be seen."""


@dataclass(frozen=True)
class AlignSettings:
    """``clips_per_step``: all frames of so many clips make a batch."""

    epochs: int = 6
    clips_per_step: int = 4
    lr: float = 3e-3
    place_weight: float = 2.0
    present_weight: float = 8.0
    seed: int = 1


@dataclass(frozen=True)
class FrameTruth:
    """Sparse truth of a clip's n frames. ``where`` [m, 3]: frame, region, sprite; ``place`` [m, 5]."""

    where: NDArray[np.int64]
    place: NDArray[np.float32]


def clip_truth(
    clip: Path, timesteps: tuple[int, ...], keys: dict[str, int], centres: list[float]
) -> FrameTruth:
    """What the generated ``clip`` shows at each timestep it was watched at (1 fps, 0.1 s before its end).

    ``centres``: pixels at which the regions of one side are centred; a sprite belongs to the nearest.

    Raises RecipeError for a clip that the world did not name.
    """
    match = _CLIP_NAME.search(clip.stem)
    if match is None:
        raise RecipeError(f"{clip}: not a clip of the generated world, whose content would be known")
    split, seed, index = match.groups()
    _, story = make_story(int(seed), int(index), split)
    where, place = [], []
    for frame, timestep in enumerate(timesteps):
        t = timestep + 0.9
        pan = story.scene.camera_x.at(t)
        for actor in story.scene.actors:
            x, y, size = actor.x.at(t) - pan, actor.y.at(t), actor.size.at(t)
            if not (0 <= x <= SIZE and 0 <= y <= SIZE and size >= _SMALLEST and actor.opacity.at(t) > 0.4):
                continue
            column, row = (min(range(len(centres)), key=lambda i: abs(v - centres[i])) for v in (x, y))
            region = row * len(centres) + column
            angle = math.radians(actor.angle.at(t))
            where.append((frame, region, keys[actor.look(t)]))
            offset = ((x - centres[column]) / _NEAR, (y - centres[row]) / _NEAR)
            place.append((*offset, math.log(size / 64), math.sin(angle), math.cos(angle)))
    return FrameTruth(
        np.array(where, np.int64).reshape(-1, 3), np.array(place, np.float32).reshape(-1, _PLACE)
    )


class Reader(nn.Module):
    """Linear readings of visual tokens: which sprites are there, and the place of each."""

    def __init__(self, words: Tensor) -> None:
        """``words`` [K, D]: for each sprite the mean embedding of the tokens that name it."""
        super().__init__()
        count, width = words.shape
        self.words = nn.Parameter(nn.functional.normalize(words, dim=-1), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.bias = nn.Parameter(torch.full((count,), -4.0))
        self.place = nn.Linear(width, count * _PLACE)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """``tokens`` [N, V, D] -> presence logits [N, V, K] and places [N, V, K, 5]."""
        logits = self.scale.exp() * tokens @ self.words.T + self.bias
        return logits, self.place(tokens).unflatten(-1, (-1, _PLACE))


def align(
    model: CompactModel,
    tokenizer: Tokenizer,
    clips: list[Path],
    cache: FeatureCache,
    settings: AlignSettings,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Train ``model.projector`` in place on ``clips``, whose features are in ``cache``.

    The last tenth of the clips is held out; returns presence ``precision``, ``recall`` and ``place_error``
    (mean absolute error of x and y in pixels) on it.
    """
    keys = {key: i for i, key in enumerate(sprite_table())}
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    data = [(cache.load(clip), clip) for clip in clips]
    centres = [SIZE * share for share in model.config.region_centres()]
    truths = [clip_truth(clip, features.timesteps, keys, centres) for features, clip in data]
    held = max(1, len(data) // 10)
    train, test = range(len(data) - held), range(len(data) - held, len(data))

    reader = Reader(_word_embeddings(model, tokenizer, list(keys)))
    parameters = [*model.projector.parameters(), *(p for p in reader.parameters() if p.requires_grad)]
    optimizer = torch.optim.AdamW(parameters, lr=settings.lr, weight_decay=0.02)
    steps = settings.epochs * math.ceil(len(train) / settings.clips_per_step)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, pct_start=0.1)
    _watch(model)
    result: dict[str, float] = {}
    for epoch in range(settings.epochs):
        order = rng.permutation(len(train))
        for i in range(0, len(order), settings.clips_per_step):
            batch = order[i : i + settings.clips_per_step]
            loss = _loss(model, reader, [data[j][0] for j in batch], [truths[j] for j in batch], settings)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            schedule.step()
        result = _measure(model, reader, [data[j][0] for j in test], [truths[j] for j in test])
        figures = "  ".join(f"{name} {value:.3f}" for name, value in result.items())
        say(f"epoch {epoch + 1}/{settings.epochs}  loss {loss.item():.4f}  {figures}")
    model.eval()
    return result


def _watch(model: CompactModel) -> None:
    """Training mode, input statistics included: here they are measured."""
    model.projector.train()
    model.projector.norm.train()


def _word_embeddings(model: CompactModel, tokenizer: Tokenizer, keys: list[str]) -> Tensor:
    table = model.decoder.get_input_embeddings().weight.detach()
    rows = []
    for key in keys:
        ids = tokenizer.encode(" " + key.replace("/", " "), add_special_tokens=False).ids
        rows.append(table[torch.tensor(ids)].mean(0))
    return torch.stack(rows)  # [K, D]


def _read(
    model: CompactModel, reader: Reader, clips: list[ClipFeatures], truths: list[FrameTruth]
) -> tuple[Tensor, Tensor, Tensor, Tensor, tuple[Tensor, ...]]:
    """Logits, places, presence [N, V, K], true places [m, 5] and the index of the m true sprites."""
    features = torch.from_numpy(np.concatenate([c.features for c in clips]).astype(np.float32))
    starts = np.cumsum([0, *(len(c.features) for c in clips)])
    where = np.concatenate([t.where + np.array([s, 0, 0]) for t, s in zip(truths, starts, strict=False)])
    index = tuple(torch.from_numpy(where).unbind(1))
    logits, places = reader(model.projector.read_regions(features))
    present = torch.zeros_like(logits)
    present[index] = 1.0
    return logits, places, present, torch.from_numpy(np.concatenate([t.place for t in truths])), index


def _loss(
    model: CompactModel,
    reader: Reader,
    clips: list[ClipFeatures],
    truths: list[FrameTruth],
    settings: AlignSettings,
) -> Tensor:
    logits, places, present, true_places, index = _read(model, reader, clips, truths)
    weight = 1.0 + (settings.present_weight - 1.0) * present
    names = nn.functional.binary_cross_entropy_with_logits(logits, present, weight, reduction="sum")
    where = nn.functional.smooth_l1_loss(places[index], true_places, beta=0.05, reduction="sum")
    return (names + settings.place_weight * where) / max(1, len(true_places))


@torch.no_grad()
def _measure(
    model: CompactModel, reader: Reader, clips: list[ClipFeatures], truths: list[FrameTruth]
) -> dict[str, float]:
    model.projector.eval()
    said = right = true = 0
    error = 0.0
    for i in range(0, len(clips), 8):
        logits, places, present, true_places, index = _read(
            model, reader, clips[i : i + 8], truths[i : i + 8]
        )
        positive = logits > 0
        said += int(positive.sum())
        true += len(true_places)
        right += int((positive & (present > 0)).sum())
        error += float((places[index] - true_places)[:, :2].abs().sum()) / 2 * _NEAR
    _watch(model)
    return {
        "precision": right / max(1, said),
        "recall": right / max(1, true),
        "place_error": error / max(1, true),
    }
