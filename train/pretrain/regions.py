"""Pretraining of the projector: it learns to put names and places into visual tokens.

The paper starts from backbones whose projector already speaks the decoder's language; `nano` has none. Here
every visual token is asked, by a linear reading, which sprites are centred in its region of the frame and
where, how large and how turned each is; a model with ``motion`` is also asked what has been happening there
since the frame before. Names and doings are read against the embeddings of the words that say them, so that
seeing a thing and reading its name look alike to the decoder. No decoder runs, so an epoch takes a
minute or two where supervised training takes half an hour. The truth is that of generated clips.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor, nn

from benchmarks.metric.progress import Progress
from train.data.features import ClipFeatures, FeatureCache
from train.models.compact.model import CompactModel
from train.synthetic.sprites.scenes.catalog import sprite_table
from train.synthetic.sprites.scenes.scene import SIZE
from train.synthetic.sprites.scenes.stage import VERBS
from train.synthetic.sprites.truth import NEAR_PX, PLACE_NUMBERS, FrameTruth, clip_truth, story_of

_VERB_SCALE = 2.0
"""Logits that a unit of length in a verb's direction is worth. Left to be learned it grows, verbs become a
whisper in tokens that shout names, and the decoder does not hear them."""


@dataclass(frozen=True)
class RegionSettings:
    """``clips_per_step``: all frames of so many clips make a batch."""

    epochs: int = 6
    clips_per_step: int = 4
    lr: float = 3e-3
    place_weight: float = 2.0
    present_weight: float = 8.0
    doing_weight: float = 4.0
    motion_lr_share: float = 0.1
    seed: int = 1


@dataclass(frozen=True)
class Reading:
    """Logits of sprites [N, V, K], their places [N, V, K, 5], logits of verbs [N, V, E]."""

    sprites: Tensor
    places: Tensor
    doing: Tensor


class Reader(nn.Module):
    """Linear readings of visual tokens: which sprites are there, the place of each, what is happening."""

    def __init__(self, names: Tensor, verbs: Tensor) -> None:
        """``names`` [K, D], ``verbs`` [E, D]: the mean embedding of the tokens that say each."""
        super().__init__()
        width = names.shape[1]
        self.names = nn.Parameter(nn.functional.normalize(names, dim=-1), requires_grad=False)
        self.verbs = nn.Parameter(nn.functional.normalize(verbs, dim=-1), requires_grad=False)
        self.scale = nn.Parameter(torch.tensor(2.0))
        self.name_bias = nn.Parameter(torch.full((len(names),), -4.0))
        self.verb_bias = nn.Parameter(torch.full((len(verbs),), -4.0))
        self.place = nn.Linear(width, len(names) * PLACE_NUMBERS)

    def forward(self, tokens: Tensor) -> Reading:
        """``tokens`` [N, V, D]."""
        return Reading(
            self.scale.exp() * tokens @ self.names.T + self.name_bias,
            self.place(tokens).unflatten(-1, (-1, PLACE_NUMBERS)),
            _VERB_SCALE * tokens @ self.verbs.T + self.verb_bias,
        )


def pretrain_regions(
    model: CompactModel,
    tokenizer: Tokenizer,
    clips: list[Path],
    cache: FeatureCache,
    settings: RegionSettings,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Train ``model.projector`` in place on ``clips``, whose features are in ``cache``.

    The last tenth of the clips is held out; returns ``precision`` and ``recall`` of sprites, ``place_error``
    (mean absolute error of x and y in pixels) and, with ``motion``, the same of doings on it.
    """
    keys = {key: i for i, key in enumerate(sprite_table())}
    rng = np.random.default_rng(settings.seed)
    torch.manual_seed(settings.seed)
    data = [(cache.load(clip), clip) for clip in clips]
    centres = [SIZE * share for share in model.config.region_centres()]
    truths = [clip_truth(story_of(clip), features.timesteps, keys, centres) for features, clip in data]
    held = max(1, len(data) // 10)
    train, test = range(len(data) - held), range(len(data) - held, len(data))

    names = _word_embeddings(model, tokenizer, [key.replace("/", " ") for key in keys])
    reader = Reader(names, _word_embeddings(model, tokenizer, list(VERBS.values())))
    fresh = [p for p in reader.parameters() if p.requires_grad]
    pretrained: list[nn.Parameter] = []  # by pretrain_motion, on cleaner evidence than regions give
    for name, parameter in model.projector.named_parameters():
        (pretrained if name.startswith(("trace", "change")) else fresh).append(parameter)
    rates = [settings.lr, settings.lr * settings.motion_lr_share]
    groups = [{"params": fresh, "lr": rates[0]}, {"params": pretrained, "lr": rates[1]}]
    optimizer = torch.optim.AdamW(groups if pretrained else groups[:1], weight_decay=0.02)
    rates = rates[: len(optimizer.param_groups)]
    steps = settings.epochs * math.ceil(len(train) / settings.clips_per_step)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)
    _watch(model)
    result: dict[str, float] = {}
    progress = Progress(steps, "regions")
    for epoch in range(settings.epochs):
        order = rng.permutation(len(train))
        for i in range(0, len(order), settings.clips_per_step):
            batch = order[i : i + settings.clips_per_step]
            loss = _loss(model, reader, [data[j][0] for j in batch], [truths[j] for j in batch], settings)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(fresh + pretrained, 1.0)
            optimizer.step()
            schedule.step()
            progress.advance(loss=loss.item())
        result = _measure(model, reader, [data[j][0] for j in test], [truths[j] for j in test])
        figures = "  ".join(f"{name} {value:.3f}" for name, value in result.items())
        say(f"epoch {epoch + 1}/{settings.epochs}  loss {loss.item():.4f}  {figures}")
    progress.close()
    model.eval()
    return result


def _watch(model: CompactModel) -> None:
    """Training mode, input statistics included: here they are measured."""
    model.projector.train()
    model.projector.norm.train()


def _word_embeddings(model: CompactModel, tokenizer: Tokenizer, phrases: list[str]) -> Tensor:
    table = model.embedding.weight.detach()
    rows = []
    for phrase in phrases:
        ids = tokenizer.encode(" " + phrase, add_special_tokens=False).ids
        rows.append(table[torch.tensor(ids)].mean(0))
    return torch.stack(rows)  # [phrases, D]


@dataclass(frozen=True)
class _Batch:
    """Truth of several clips' frames, one after the other: 0 or 1 for every sprite and verb."""

    present: Tensor  # [N, V, K]
    index: tuple[Tensor, ...]  # of the sprites that are there: frame, region, sprite
    places: Tensor  # [m, 5]
    doing: Tensor  # [N, V, E]


def _read(
    model: CompactModel, reader: Reader, clips: list[ClipFeatures], truths: list[FrameTruth]
) -> tuple[Reading, _Batch]:
    features = torch.from_numpy(np.concatenate([c.features for c in clips]).astype(np.float32))
    lengths = [len(c.features) for c in clips]
    starts = np.cumsum([0, *lengths[:-1]])
    with torch.autocast("cpu", torch.bfloat16):
        tokens = model.projector.read_regions(features, lengths)
    reading = reader(tokens.float())

    def index(parts: list[NDArray[np.int64]]) -> tuple[Tensor, ...]:
        rows = [part + np.array([start, 0, 0]) for part, start in zip(parts, starts, strict=True)]
        return tuple(torch.from_numpy(np.concatenate(rows)).unbind(1))

    where = index([t.where for t in truths])
    present, doing = torch.zeros_like(reading.sprites), torch.zeros_like(reading.doing)
    present[where] = 1.0
    doing[index([t.doing for t in truths])] = 1.0
    places = torch.from_numpy(np.concatenate([t.place for t in truths]))
    return reading, _Batch(present, where, places, doing)


def _loss(
    model: CompactModel,
    reader: Reader,
    clips: list[ClipFeatures],
    truths: list[FrameTruth],
    settings: RegionSettings,
) -> Tensor:
    reading, truth = _read(model, reader, clips, truths)

    def presence(logits: Tensor, present: Tensor) -> Tensor:
        weight = 1.0 + (settings.present_weight - 1.0) * present
        bce = nn.functional.binary_cross_entropy_with_logits
        return bce(logits, present, weight, reduction="sum")

    loss = presence(reading.sprites, truth.present)
    where = reading.places[truth.index]
    loss += settings.place_weight * nn.functional.smooth_l1_loss(
        where, truth.places, beta=0.05, reduction="sum"
    )
    if model.config.motion:
        loss += settings.doing_weight * presence(reading.doing, truth.doing)
    return loss / max(1, len(truth.places))


class _Found:
    """Precision and recall, counted."""

    def __init__(self) -> None:
        self.said = self.true = self.right = 0

    def add(self, logits: Tensor, present: Tensor) -> None:
        positive = logits > 0
        self.said += int(positive.sum())
        self.true += int(present.sum())
        self.right += int((positive & (present > 0)).sum())

    def rates(self, name: str = "") -> dict[str, float]:
        return {
            f"{name}precision": self.right / max(1, self.said),
            f"{name}recall": self.right / max(1, self.true),
        }


@torch.no_grad()
def _measure(
    model: CompactModel, reader: Reader, clips: list[ClipFeatures], truths: list[FrameTruth]
) -> dict[str, float]:
    model.projector.eval()
    sprites, doing = _Found(), _Found()
    error = 0.0
    for i in range(0, len(clips), 8):
        reading, truth = _read(model, reader, clips[i : i + 8], truths[i : i + 8])
        sprites.add(reading.sprites, truth.present)
        doing.add(reading.doing, truth.doing)
        error += float((reading.places[truth.index] - truth.places)[:, :2].abs().sum()) / 2 * NEAR_PX
    _watch(model)
    result = sprites.rates() | {"place_error": error / max(1, sprites.true)}
    return result | doing.rates("doing_") if model.config.motion else result
