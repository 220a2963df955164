"""Second half of stage 0: the decoder learns to say the name of something it sees, one frame at a time.

Supervised training shows a name once in a hundred tokens, in streams of eight hundred; here every example is
one short turn whose answer is a name, so the decoder learns to look at visual tokens before it learns when to
speak. The first word of any sprite in view is right: the target is spread over them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from edge_runtime.protocol import Protocol, TurnEncoder
from train.align import clip_truth
from train.data.features import FeatureCache
from train.model.compact import CompactModel
from train.world.catalog import sprite_table
from train.world.scene import SIZE
from train.world.texts import QUESTIONS


@dataclass(frozen=True)
class NamingSettings:
    """``labels``: interval labels are drawn from 0 to this many timesteps."""

    steps: int = 450
    batch_size: int = 32
    lr: float = 1.5e-3
    embedding_lr: float = 3e-4
    projector_lr: float = 1e-4
    labels: int = 60
    seed: int = 1


@dataclass(frozen=True)
class Example:
    """A frame's features [320, 7, 7] and the first tokens of the names of what is in view."""

    features: Tensor
    names: tuple[int, ...]


def teach_naming(
    model: CompactModel,
    tokenizer: Tokenizer,
    protocol: Protocol,
    clips: list[Path],
    cache: FeatureCache,
    settings: NamingSettings,
    say: Callable[[str], None],
) -> dict[str, float]:
    """Train ``model`` in place; returns ``named``, the share of frames whose answer was in view."""
    encoder = TurnEncoder(protocol, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    rng = np.random.default_rng(settings.seed)
    examples = _Examples(model, tokenizer, clips, cache, rng)
    named = [p for n, p in model.decoder.named_parameters() if "embed_tokens" not in n]
    optimizer = torch.optim.AdamW(
        [
            {"params": named, "lr": settings.lr},
            {"params": [model.decoder.get_input_embeddings().weight], "lr": settings.embedding_lr},
            {"params": model.projector.parameters(), "lr": settings.projector_lr},
        ],
        betas=(0.9, 0.98),
    )
    model.train()
    right: list[float] = []
    started = time.monotonic()
    for step in range(1, settings.steps + 1):
        batch = [examples.draw() for _ in range(settings.batch_size)]
        query = QUESTIONS["EC"][int(rng.integers(len(QUESTIONS["EC"])))]
        turn = encoder.turn_ids(int(rng.integers(settings.labels)))
        row = [*encoder.query_ids(query), *turn, encoder.response_id]
        with torch.autocast("cpu", torch.bfloat16):
            logits = _answer(model, row, torch.stack([e.features for e in batch]), encoder.image_id)
        target = torch.zeros_like(logits)  # [B, vocab]
        for i, example in enumerate(batch):
            target[i, list(example.names)] = 1.0 / len(example.names)
        loss = -(target * logits.log_softmax(-1)).sum(-1).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        best = logits.argmax(-1).tolist()
        right.append(sum(b in e.names for b, e in zip(best, batch, strict=True)) / len(batch))
        if step % 50 == 0:
            spent = time.monotonic() - started
            figures = f"loss {loss.item():.3f}  named {_end(right):.3f}"
            say(f"naming {step}/{settings.steps}  {spent:.0f} s  {figures}")
    model.eval()
    return {"named": _end(right)}


def _end(values: list[float]) -> float:
    return float(np.mean(values[-50:]))


def _answer(model: CompactModel, row: list[int], features: Tensor, image_id: int) -> Tensor:
    """``features`` [B, 320, 7, 7] -> logits [B, vocab] after the same ids ``row`` for every frame."""
    ids = torch.tensor([row] * len(features))
    embeddings = model.embed(ids, model.projector(features), image_id)  # [B, T, D]
    hidden = model.decoder.model(inputs_embeds=embeddings, use_cache=False).last_hidden_state[:, -1]
    return model.decoder.lm_head(hidden).float()


class _Examples:
    """Random frames with something in view."""

    def __init__(
        self,
        model: CompactModel,
        tokenizer: Tokenizer,
        clips: list[Path],
        cache: FeatureCache,
        rng: np.random.Generator,
    ) -> None:
        keys = {key: i for i, key in enumerate(sprite_table())}
        centres = [SIZE * share for share in model.config.region_centres()]
        words = [key.split("/")[0] for key in keys]
        self._first = [tokenizer.encode(" " + w, add_special_tokens=False).ids[0] for w in words]
        self._clips = [cache.load(clip) for clip in clips]
        self._truths = [
            clip_truth(clip, f.timesteps, keys, centres).where
            for clip, f in zip(clips, self._clips, strict=True)
        ]
        self._rng = rng

    def draw(self) -> Example:
        while True:
            i = int(self._rng.integers(len(self._clips)))
            frame = int(self._rng.integers(len(self._clips[i].timesteps)))
            seen = self._truths[i][self._truths[i][:, 0] == frame, 2]
            if len(seen):
                features = torch.from_numpy(np.array(self._clips[i].features[frame], dtype=np.float32))
                return Example(features, tuple({self._first[k] for k in seen}))
