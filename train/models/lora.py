"""LoRA: a pretrained decoder stays as it is, and small adapters learn (through `peft`).

Trained and saved are the adapters, the projector and the rows of the new tokens; the base is named by folder
and hash. Merged, the model is a plain one again, for export and for the runtime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from train.models.base import StreamModel
from train.models.weights import tensors_sha256

ALL_PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class LoraSettings:
    """``alpha`` / ``rank`` scales what the adapters add; ``targets``: the decoder's layers that get one."""

    rank: int = 16
    alpha: float = 32.0
    dropout: float = 0.05
    targets: tuple[str, ...] = ALL_PROJECTIONS

    def __post_init__(self) -> None:
        if self.rank < 1 or self.alpha <= 0 or not 0 <= self.dropout < 1 or not self.targets:
            raise ValueError("lora: rank and alpha must be positive, dropout in 0..1, targets not empty")


@dataclass(frozen=True)
class Base:
    """The checkpoint whose decoder stays as it is: its folder, and the hash of that decoder's weights.

    The projector is not part of the hash: it starts at random, and is saved with the adapters.
    """

    folder: str
    sha256: str


class TokenRows(nn.Module):
    """Rows of a frozen embedding (and output matrix) that are trained: those of the new tokens.

    Hooks put them in place, so that the modules around them stay what they are.
    """

    def __init__(self, embedding: nn.Embedding, head: nn.Linear | None, ids: Tensor) -> None:
        """``head``: the output matrix where it is not the embedding itself."""
        super().__init__()
        self.ids: Tensor
        self.register_buffer("ids", ids)
        self.embedding_rows = nn.Parameter(embedding.weight[ids].detach().float().clone())
        self.head_rows = None if head is None else nn.Parameter(head.weight[ids].detach().float().clone())
        self._hook = embedding.register_forward_hook(self._embed)

    def _embed(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        here = torch.eq(args[0].unsqueeze(-1), self.ids)  # [..., k]
        rows = self.embedding_rows[here.long().argmax(-1)].to(output.dtype)
        return torch.where(here.any(-1, keepdim=True), rows, output)

    def logits(self, hidden: Tensor, logits: Tensor) -> Tensor:
        """``logits`` [..., vocab] of ``hidden`` [..., D] with the new tokens' own."""
        rows = self.embedding_rows if self.head_rows is None else self.head_rows
        return logits.index_copy(
            -1, self.ids, nn.functional.linear(hidden, rows.to(hidden.dtype)).to(logits.dtype)
        )

    @torch.no_grad()
    def merge(self, embedding: nn.Embedding, head: nn.Linear | None) -> None:
        """Write the rows where they belong and let go."""
        self._hook.remove()
        embedding.weight[self.ids] = self.embedding_rows.to(embedding.weight.dtype)
        if head is not None and self.head_rows is not None:
            head.weight[self.ids] = self.head_rows.to(head.weight.dtype)


@dataclass(frozen=True)
class Adapters:
    """What a model with adapters remembers of them: ``model.adapters``."""

    settings: LoraSettings
    base: Base
    token_ids: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Adapters:
        settings = dict(data["settings"])
        settings["targets"] = tuple(settings["targets"])
        return cls(LoraSettings(**settings), Base(**data["base"]), tuple(data["token_ids"]))


def start_adapters(
    model: StreamModel, settings: LoraSettings, base: Path, token_ids: tuple[int, ...]
) -> None:
    """Give ``model``, just loaded from the checkpoint ``base``, fresh adapters.

    ``token_ids``: tokens whose embeddings are trained, the decision tokens. Raises as :func:`add_adapters`.
    """
    add_adapters(model, Adapters(settings, Base(str(base), decoder_sha256(model)), token_ids))


def decoder_sha256(model: StreamModel) -> str:
    """Of the decoder's weights, before it has adapters; a tied output matrix counts once."""
    tied = {"lm_head.weight"} if _matrices(model)[1] is None else set()
    return tensors_sha256({n: t for n, t in model.decoder.state_dict().items() if n not in tied})


def add_adapters(model: StreamModel, adapters: Adapters) -> None:
    """Freeze ``model``'s decoder and give it adapters, which start by adding nothing.

    Raises ValueError when none of the targets is a layer of the decoder, ImportError without `peft`.
    """
    from peft import LoraConfig, inject_adapter_in_model

    s = adapters.settings
    model.decoder.requires_grad_(False)
    config = LoraConfig(
        r=s.rank,
        lora_alpha=s.alpha,  # type: ignore[arg-type]  # a fraction is fine
        lora_dropout=s.dropout,
        target_modules=list(s.targets),
        bias="none",
    )
    inject_adapter_in_model(config, model.decoder)
    embedding, head = _matrices(model)
    if head is not None:
        head.requires_grad_(False)
    ids = torch.tensor(adapters.token_ids, device=embedding.weight.device)
    model.token_rows = TokenRows(embedding, head, ids)
    model.adapters = adapters
    for parameter in model.parameters():
        if parameter.requires_grad:  # what learns in small steps needs its precision
            parameter.data = parameter.data.float()


def merge_adapters(model: StreamModel) -> None:
    """Make ``model`` a plain one again that computes the same, all of it trainable."""
    from peft.tuners.lora import LoraLayer

    for parent in list(model.decoder.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, LoraLayer):
                child.merge()
                setattr(parent, name, child.get_base_layer())
    assert model.token_rows is not None
    model.token_rows.merge(*_matrices(model))
    model.token_rows = None
    model.adapters = None
    model.requires_grad_(True)


def adapter_weights(model: StreamModel) -> dict[str, Tensor]:
    """What of the state dict is not the base's."""
    frozen = frozen_names(model)
    return {name: tensor for name, tensor in model.state_dict().items() if name not in frozen}


def frozen_names(model: StreamModel) -> set[str]:
    return {n for n, p in model.named_parameters(remove_duplicate=False) if not p.requires_grad}


def _matrices(model: StreamModel) -> tuple[nn.Embedding, nn.Linear | None]:
    """The decoder's embedding, and its output matrix where that is another."""
    head = model.output_matrix()
    return model.embedding, None if head is None or head.weight is model.embedding.weight else head
