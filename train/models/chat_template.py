"""ChatML, the chat format of SmolLM2 and Qwen, as the turns of a stream; and the tokens it needs."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer
from torch import Tensor

from edge_runtime.bundle.stream_format import RESPONSE, SILENCE, StreamFormat

ROW_MULTIPLE = 64
"""Rows of an embedding that grows come in multiples of it: matrix units like it."""


def chatml(stream_format: StreamFormat, image_token: str, before: str = "", after: str = "") -> StreamFormat:
    """``protocol`` in ChatML. ``before``, ``after``: what stands around a picture's placeholders.

    The newline that ends a message is written with the next one, so a response ends with one token.
    """
    user = "\n<|im_start|>user\n{}<|im_end|>"
    turn = user.format("<{start}s-{end}s>" + before + "{image}" + after)
    return replace(
        stream_format,
        prefix_template="<|im_start|>system\n{system}<|im_end|>",
        query_template=user.format("{text}"),
        turn_template=turn + "\n<|im_start|>assistant\n",
        silence_end="<|im_end|>",
        response_end="<|im_end|>",
        image_token=image_token,
    )


def add_tokens(tokenizer: Tokenizer, *more: str) -> dict[str, int]:
    """Add the decision tokens, then ``more``, to ``tokenizer`` where it lacks them; returns their ids."""
    names = (SILENCE, RESPONSE, *more)
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    ids = {name: tokenizer.token_to_id(name) for name in names}
    return {name: number for name, number in ids.items() if number is not None}


@torch.no_grad()
def start_rows(table: Tensor, tokenizer: Tokenizer, ids: dict[str, int]) -> None:
    """Give new tokens the mean embedding of the word they are made of: a start that means something.

    ``table`` [vocab, D], an embedding or an output matrix, is changed in place.
    """
    for name, row in ids.items():
        word = tokenizer.encode(name.strip("</|>"), add_special_tokens=False).ids
        table[row] = table[torch.tensor(word, device=table.device)].mean(0)


def padded_rows(tokens: int) -> int:
    return -(-tokens // ROW_MULTIPLE) * ROW_MULTIPLE


def plain(config: Any) -> dict[str, Any]:
    """A transformers configuration as JSON holds it, without what names the machine it was read on."""
    data = json.loads(config.to_json_string(use_diff=False))
    return {k: v for k, v in data.items() if k not in ("_name_or_path", "transformers_version")}
