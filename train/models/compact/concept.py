"""The concept token: what a frozen ImageNet classifier sees in a frame, said in the decoder's own words.

One more visual token per frame, sum_c p(c) x (mean token embedding of class c's name). A language model that
knows the names then knows the things, without one pair of image and text; what is unsure or unknown comes out
short. A residual layer, zero at first, learns to adapt it.
"""

from __future__ import annotations

from importlib.resources import files

import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from train.models.compact.lite0 import load_imagenet_head

CLASSES = 1000


class ConceptToken(nn.Module):
    """Frozen features to one visual token. ``names`` [1000, D] is set by :func:`name_embeddings`."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.head = load_imagenet_head()
        self.names: Tensor
        self.register_buffer("names", torch.zeros(CLASSES, width))
        self.adapt = nn.Linear(width, width)
        nn.init.zeros_(self.adapt.weight)
        nn.init.zeros_(self.adapt.bias)

    def forward(self, features: Tensor) -> Tensor:
        """``features`` [N, 320, 7, 7] -> [N, 1, D]."""
        with torch.no_grad():
            token = self.head(features).to(self.names.dtype) @ self.names  # [N, D]
        return (token + self.adapt(token)).unsqueeze(1)


def class_names() -> list[str]:
    """What to call each ImageNet class, in the order of the classifier, as in "golden retriever dog"."""
    text = files("train.models.compact").joinpath("assets/imagenet_classes.txt").read_text(encoding="utf-8")
    names = []
    for line in text.splitlines():
        if not line.startswith("#"):
            synonyms, _, kind = line.partition("; ")
            names.append(f"{synonyms.partition(',')[0]} {kind}".strip())
    return names


@torch.no_grad()
def name_embeddings(embedding: Tensor, tokenizer: Tokenizer) -> Tensor:
    """``embedding`` [vocab, D] -> the mean embedding of every class's name [1000, D]."""
    rows = []
    for name in class_names():
        ids = tokenizer.encode(" " + name, add_special_tokens=False).ids
        rows.append(embedding[torch.tensor(ids, device=embedding.device)].mean(0))
    return torch.stack(rows)
