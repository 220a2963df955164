"""Checkpoints of the sizes of published Qwen3-VL models, in their layout, with random weights.

Sizes are the published ones. The tokenizer has bytes and special tokens alone: an export depends on the rows
of the embedding, not on what they mean.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration

_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>"]
_SPECIAL += ["<|image_pad|>", "<|video_pad|>"]
_VISION_2B = {"depth": 24, "hidden_size": 1024, "intermediate_size": 4096, "deepstack": [5, 11, 17]}
_VISION_8B = {"depth": 27, "hidden_size": 1152, "intermediate_size": 4304, "deepstack": [8, 16, 24]}
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "text": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "head_dim": 16},
        "heads": (4, 2),
        "vision": {"depth": 3, "hidden_size": 32, "intermediate_size": 64, "deepstack": [0, 1]},
        "vocab": 320,
    },
    "2b": {
        "text": {"hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 28},
        "heads": (16, 8),
        "vision": _VISION_2B,
    },
    "4b": {
        "text": {"hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36},
        "heads": (32, 8),
        "vision": _VISION_2B,
    },
    "8b": {
        "text": {"hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36},
        "heads": (32, 8),
        "vision": _VISION_8B,
        "tied": False,
    },
}
"""2B, 4B and 8B of Qwen3-VL, and one for tests."""
_SHARD_BYTES = 2 << 30
_BLOCK = 1 << 24
_PROCESSOR = {
    "image_processor_type": "Qwen2VLImageProcessor",
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
    "patch_size": 16,
    "temporal_patch_size": 2,
    "merge_size": 2,
    "size": {"shortest_edge": 65536, "longest_edge": 16777216},
}


def write_checkpoint(folder: Path, size: str, layers: int | None = None) -> int:
    """Write a checkpoint of one of SIZES into a new ``folder``; returns its parameters.

    ``layers``: of the decoder, the published number when None.

    Weights are normal, scaled so that activations keep their size. They repeat one block of 16 M numbers from
    a place of its own for each tensor: making billions of new ones takes longer than the export.
    """
    folder.mkdir(parents=True)
    tokenizer = _tokenizer()
    config = _config(SIZES[size], tokenizer)
    if layers is not None:
        config.text_config.num_hidden_layers = layers
        config.vision_config.deepstack_visual_indexes = config.vision_config.deepstack_visual_indexes[:layers]
    with torch.device("meta"):
        whole = Qwen3VLForConditionalGeneration(config)
    config.architectures = ["Qwen3VLForConditionalGeneration"]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    fast: Any = PreTrainedTokenizerFast
    fast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(_PROCESSOR))
    places: dict[str, str] = {}
    shard: dict[str, Tensor] = {}
    files = 0

    def write() -> None:
        nonlocal files
        files += 1
        name = f"model-{files:05}.safetensors"
        save_file(shard, folder / name, metadata={"format": "pt"})
        places.update(dict.fromkeys(shard, name))
        shard.clear()

    for name, value in _weights(whole):
        shard[name] = value
        if sum(tensor.nbytes for tensor in shard.values()) > _SHARD_BYTES:
            write()
    write()
    index = {"metadata": {}, "weight_map": places}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return sum(parameter.numel() for parameter in whole.parameters())


def _weights(whole: Any) -> Iterator[tuple[str, Tensor]]:
    block = torch.randn(_BLOCK, generator=torch.Generator().manual_seed(0)).bfloat16()
    for number, (name, parameter) in enumerate(whole.named_parameters()):
        if parameter.ndim == 1:
            value = torch.zeros if name.endswith("bias") else torch.ones
            yield name, value(parameter.shape, dtype=torch.bfloat16)
            continue
        count = parameter.numel()
        start = (number * 7919) % _BLOCK
        whole_block = torch.cat([block[start:], block[:start]])
        spread = 0.02 if "embed_tokens" in name else 0.7 / math.sqrt(count / len(parameter))
        scaled = (whole_block * spread).repeat(-(-count // _BLOCK))[:count]
        yield name, scaled.view(parameter.shape)


def _config(size: dict[str, Any], tokenizer: Tokenizer) -> Any:
    heads, kv_heads = size["heads"]
    tied = size.get("tied", True)
    rope = {"rope_type": "default", "rope_theta": 5e6, "mrope_interleaved": True}
    text = {"vocab_size": 151_936, "head_dim": 128, "max_position_embeddings": 262_144, **size["text"]}
    if "vocab" in size:
        text["vocab_size"] = size["vocab"]
    half = text["head_dim"] // 2
    rope["mrope_section"] = [half - 2 * (5 * half // 16), 5 * half // 16, 5 * half // 16]
    text |= {"num_attention_heads": heads, "num_key_value_heads": kv_heads, "rope_parameters": rope}
    text |= {"tie_word_embeddings": tied}
    vision = {"num_heads": 16, "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2}
    vision |= {"in_channels": 3, "out_hidden_size": text["hidden_size"], "num_position_embeddings": 2304}
    vision |= {key: value for key, value in size["vision"].items() if key != "deepstack"}
    if vision["hidden_size"] < 64:
        vision["num_heads"] = 2
    vision["deepstack_visual_indexes"] = size["vision"]["deepstack"]
    ids: dict[str, Any] = {
        f"{name}_token_id": tokenizer.token_to_id(token)
        for name, token in [
            ("image", "<|image_pad|>"),
            ("video", "<|video_pad|>"),
            ("vision_start", "<|vision_start|>"),
            ("vision_end", "<|vision_end|>"),
        ]
    }
    return Qwen3VLConfig(text_config=text, vision_config=vision, tie_word_embeddings=tied, **ids)


def _tokenizer() -> Tokenizer:
    """Bytes, two words and the special tokens of Qwen's chat format."""
    vocab = {letter: number for number, letter in enumerate(sorted(ByteLevel.alphabet()))}
    merges = [("N", "o"), ("Y", "e"), ("Ye", "s")]
    for pair in merges:
        vocab["".join(pair)] = len(vocab)
    tokenizer = Tokenizer(BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in _SPECIAL])
    return tokenizer
