"""Motion pretraining: the projector learns to tell from two frames what an actor is doing.

Two frames of every event of generated clips, and which of the event kinds it is: no regions, no words and
no decoder, so that it takes minutes. What compares the frames then knows directions, growth and turning
before visual tokens are made of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.metric.progress import Progress
from train.config.errors import RecipeError
from train.data.features import FeatureCache
from train.models.compact.model import CHANGE_CHANNELS, Projector
from train.synthetic.sprites.scenes.stage import VERBS
from train.synthetic.sprites.truth import story_of, under_way


@dataclass(frozen=True)
class MotionPretrainingSettings:
    """``dropout``: share of feature channels that are hidden, for both frames of a pair alike.

    ``pairs``: at most so many are learned from; they are held in memory, 63 kB each.
    """

    epochs: int = 6
    pairs: int = 30_000
    batch_size: int = 64
    lr: float = 3e-3
    weight_decay: float = 0.02
    dropout: float = 0.1
    seed: int = 1


class _Verdict(nn.Module):
    """What changed anywhere in the frame -> which event kind it is."""

    def __init__(self, projector: Projector, dropout: float) -> None:
        super().__init__()
        self.projector = projector
        self.hidden = nn.Dropout2d(dropout)
        self.kind = nn.Linear(2 * CHANGE_CHANNELS, len(VERBS))

    def forward(self, pairs: Tensor) -> Tensor:
        """``pairs`` [B, 2, 320, 7, 7], frame and the one before -> logits [B, kinds]."""
        assert self.projector.trace is not None
        normed = self.projector.norm(pairs.flatten(0, 1)).unflatten(0, (-1, 2))  # [B, 2, 320, 7, 7]
        kept = self.hidden(normed.transpose(1, 2).flatten(2, 3)).unflatten(2, (2, -1)).transpose(1, 2)
        traces = self.projector.trace(kept.flatten(0, 1)).unflatten(0, (-1, 2))  # [B, 2, T, 7, 7]
        change = self.projector.compare(traces[:, 0], traces[:, 1])  # [B, C, 7, 7]
        return self.kind(torch.cat([change.amax((2, 3)), change.mean((2, 3))], dim=1))


def pretrain_motion(
    projector: Projector,
    clips: Sequence[Path],
    cache: FeatureCache,
    settings: MotionPretrainingSettings,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Train the comparing part of ``projector`` in place; its input statistics are measured first.

    The last tenth of the clips is held out; returns ``motion``, the share of its pairs classified rightly.
    """
    torch.manual_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    held = max(1, len(clips) // 10)
    train = _pairs(clips[:-held], cache, settings.pairs, rng)
    test = _pairs(clips[-held:], cache, settings.pairs, rng)
    _measure_statistics(projector, train[0])
    model = _Verdict(projector, settings.dropout)
    assert projector.trace is not None and projector.change is not None
    parameters = [
        *projector.trace.parameters(), *projector.change.parameters(), *model.kind.parameters()
    ]  # fmt: skip
    optimizer = torch.optim.AdamW(parameters, settings.lr, weight_decay=settings.weight_decay)
    count = max(1, len(train[0]) // settings.batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.lr, total_steps=settings.epochs * count
    )
    right, started = 0.0, time.monotonic()
    progress = Progress(settings.epochs * count, "motion")
    for epoch in range(1, settings.epochs + 1):
        model.train()
        for batch in np.array_split(rng.permutation(len(train[0])), count):
            loss = nn.functional.cross_entropy(_logits(model, train[0][batch]), train[1][batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            progress.advance(loss=loss.item())
        right = _share_right(model, *test)
        spent = time.monotonic() - started
        say(f"motion {epoch}/{settings.epochs}  {spent:.0f} s  loss {loss.item():.3f}  right {right:.3f}")
    progress.close()
    projector.eval()
    return {"motion": right}


def _pairs(
    clips: Sequence[Path], cache: FeatureCache, most: int, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Frames that show an event, each before its predecessor, float16 [P, 2, 320, 7, 7]; kinds [P]."""
    verbs = {kind: i for i, kind in enumerate(VERBS)}
    found = [
        (clip, frame, verbs[event.kind])
        for clip in clips
        for frame, event in under_way(story_of(clip), cache.load(clip).timesteps)
        if frame
    ]
    if not found:
        raise RecipeError("pretraining: no clip shows an event of an actor; generate more clips")
    chosen = [found[i] for i in sorted(rng.permutation(len(found))[:most])]
    pairs = [cache.load(clip).features[[frame, frame - 1]] for clip, frame, _ in chosen]
    return torch.from_numpy(np.stack(pairs)), torch.tensor([kind for *_, kind in chosen])


@torch.no_grad()
def _measure_statistics(projector: Projector, pairs: Tensor) -> None:
    some = pairs[:: max(1, len(pairs) // 2000), 0].float()  # [n, 320, 7, 7]
    assert projector.norm.running_mean is not None and projector.norm.running_var is not None
    projector.norm.running_mean.copy_(some.mean((0, 2, 3)))
    projector.norm.running_var.copy_(some.var((0, 2, 3)))


def _logits(model: _Verdict, pairs: Tensor) -> Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return model(pairs.float()).float()


@torch.no_grad()
def _share_right(model: _Verdict, pairs: Tensor, kinds: Tensor) -> float:
    model.eval()
    said = torch.cat([_logits(model, part).argmax(-1) for part in pairs.split(256)])
    return float((said == kinds).float().mean())
