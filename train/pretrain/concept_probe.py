"""What the concept token says to a language model that was never trained on images.

    python -m benchmarks.external.real_photos --out data/photos
    python -m train.pretrain.concept_probe runs/smol-base data/photos/annotations.jsonl

Second by second the model completes "The picture shows a", once with the frame's concept token as a word in
front and once without; measured is the probability of what is in view among the names of all things in the
file, by the first token of each name. No parameter is trained.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor

from benchmarks.metric.annotations import Annotation, read_annotations
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import ConfigError
from train.data.features import FeatureCache
from train.models.checkpoint import load_checkpoint
from train.models.compact.model import CompactModel
from train.synthetic.sprites.scenes.catalog import sprite_table
from train.synthetic.sprites.scenes.scene import SIZE
from train.synthetic.sprites.truth import FRAME_SECOND, clip_truth, story_of

BEFORE, AFTER = "Seen:", ". The picture shows a"
_BATCH = 32


@dataclass(frozen=True)
class Found:
    """``probability``: mean of what is in view, all names together being 1; ``first``: share of frames in
    which the top-1 name is in view, ``first_corrected``: where a name's own frequency, which the prompt
    without the token knows, is divided out. ``auc``: chance that a name is likelier in a frame that shows it
    than in one that does not; without the token it is 0.5. ``by_chance``: ``first`` of a drawn name.
    """

    frames: int
    names: int
    by_chance: float
    probability_without: float
    first_without: float
    probability: float
    first: float
    first_corrected: float
    auc: float


@torch.no_grad()
def name_log_probs(
    model: CompactModel, tokenizer: Tokenizer, features: Tensor | None, names: Sequence[str]
) -> Tensor:
    """``features`` [N, 320, 7, 7] -> log-probabilities of ``names`` among themselves, by their first tokens,
    [N, K]; [1, K] without a frame.
    """
    firsts = _first_tokens(tokenizer, names)
    embed = model.embedding

    def words(text: str) -> Tensor:
        return embed(torch.tensor([tokenizer.encode(text, add_special_tokens=False).ids]))  # [1, T, D]

    if features is None:
        prompt = torch.cat([words(BEFORE), words(AFTER)], dim=1)
    else:
        assert model.projector.concept is not None
        token = model.projector.concept(features)  # [N, 1, D]
        n = len(token)
        prompt = torch.cat([words(BEFORE).expand(n, -1, -1), token, words(AFTER).expand(n, -1, -1)], dim=1)
    rows = [
        model.decoder.model(inputs_embeds=prompt[i : i + _BATCH]).last_hidden_state[:, -1]
        for i in range(0, len(prompt), _BATCH)
    ]
    return model.logits(torch.cat(rows))[:, firsts].float().log_softmax(-1)


def told_apart(tokenizer: Tokenizer, names: Sequence[str]) -> list[str]:
    """Those of ``names`` whose first token is theirs alone."""
    firsts = _first_tokens(tokenizer, names)
    return [name for name, first in zip(names, firsts, strict=True) if firsts.count(first) == 1]


def _first_tokens(tokenizer: Tokenizer, names: Sequence[str]) -> list[int]:
    return [tokenizer.encode(f" {name}", add_special_tokens=False).ids[0] for name in names]


def names_in_view(question: Annotation, timesteps: Sequence[int]) -> list[set[str]]:
    """What each timestep of a clip shows: by its shots, or as a generated clip has it."""
    if "shots" in question.extra:
        shots = question.extra["shots"]
        return [
            {name for name, start, end in shots if start <= t and t + FRAME_SECOND <= end} for t in timesteps
        ]
    keys = {key: i for i, key in enumerate(sprite_table())}
    names = [key.split("/")[0] for key in keys]
    where = clip_truth(story_of(question.video_path), tuple(timesteps), keys, [SIZE / 2]).where
    return [{names[sprite] for sprite in where[where[:, 0] == i, 2]} for i in range(len(timesteps))]


def measure(model: CompactModel, tokenizer: Tokenizer, features: Tensor, shown: list[set[str]]) -> Found:
    """``features`` [N, 320, 7, 7] of frames, and what each of them shows; frames that show nothing count for
    the AUC only. Names that begin with the same token are left out.
    """
    names = told_apart(tokenizer, sorted(set().union(*shown)))
    truth = torch.tensor([[name in seen for name in names] for seen in shown])  # [N, K]
    prior = name_log_probs(model, tokenizer, None, names)  # [1, K]
    said = name_log_probs(model, tokenizer, features, names)  # [N, K]
    some = truth.any(1)
    share = truth[some].float().mean(1).mean().item()

    def first(scores: Tensor) -> float:
        return truth[some].gather(1, scores[some].argmax(-1, keepdim=True)).float().mean().item()

    def mass(log_probs: Tensor) -> float:
        return (log_probs.exp() * truth)[some].sum(1).mean().item()

    without = prior.expand_as(said)
    aucs = [_auc(said[:, k], truth[:, k]) for k in range(len(names)) if 0 < truth[:, k].sum() < len(truth)]
    return Found(
        frames=int(some.sum()),
        names=len(names),
        by_chance=share,
        probability_without=mass(without),
        first_without=first(without),
        probability=mass(said),
        first=first(said),
        first_corrected=first(said - prior),
        auc=float(np.mean(aucs)),
    )


def _auc(scores: Tensor, truth: Tensor) -> float:
    """Chance that a true frame scores higher than another one; ties count half."""
    difference = scores[truth][:, None] - scores[~truth][None, :]
    return ((difference > 0).float() + 0.5 * (difference == 0)).mean().item()


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path, file_okay=False))
@click.argument("annotations", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--cache", type=click.Path(path_type=Path), default="runs/features", show_default=True)
@click.option("--clips", default=0, help="The first so many clips; 0: all.")
def main(checkpoint: Path, annotations: Path, cache: Path, clips: int) -> None:
    """Zero-shot names of what CHECKPOINT's concept token shows in the clips of ANNOTATIONS."""
    loaded = load_checkpoint(checkpoint)
    model = loaded.model.float().eval()
    if not isinstance(model, CompactModel) or model.projector.concept is None:
        raise ConfigError(f"{checkpoint}: has no concept token; make one with train init-backbone smol")
    by_clip = {question.video_path: question for question in read_annotations(annotations)}
    chosen = list(by_clip.items())[: clips or None]
    features = FeatureCache(cache, loaded.stream_format.fps, vision=model.vision)
    features.ensure(clip for clip, _ in chosen)
    frames, shown = [], []
    for clip, question in chosen:
        found = features.load(clip)
        frames.append(torch.from_numpy(np.array(found.features, dtype=np.float32)))
        shown += names_in_view(question, found.timesteps)
    result = measure(model, loaded.tokenizer, torch.cat(frames), shown)
    click.echo(json.dumps(asdict(result), indent=2))


if __name__ == "__main__":
    run_command(main)
