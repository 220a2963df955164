"""A tiny SmolVLM2 of random weights, in the folder layout of the published ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

SIDE, SCALE = 64, 2  # 8 x 8 patches of 8 pixels -> 16 visual tokens
PROCESSOR = {  # as HuggingFaceTB/SmolVLM2-256M-Video-Instruct has it, but for the sizes
    "do_convert_rgb": True,
    "do_image_splitting": True,
    "do_normalize": True,
    "do_pad": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_processor_type": "SmolVLMImageProcessor",
    "image_std": [0.5, 0.5, 0.5],
    "max_image_size": {"longest_edge": SIDE},
    "processor_class": "SmolVLMProcessor",
    "resample": 1,
    "rescale_factor": 1 / 255,
    "size": {"longest_edge": 4 * SIDE},
    "video_sampling": {"fps": 1, "max_frames": 64, "video_size": {"longest_edge": SIDE}},
}


def smolvlm_tokenizer() -> Any:
    """Bytes, the decision words, and the special tokens of SmolVLM2; the last id is the end of a message."""
    from tokenizers import AddedToken, Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel

    merges = [("Ġ", "N"), ("ĠN", "o"), ("Ġ", "Y"), ("ĠY", "e"), ("ĠYe", "s")]
    words = [*sorted(ByteLevel.alphabet()), *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(BPE(vocab={word: i for i, word in enumerate(words)}, merges=merges))
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<global-img>", "<row_1_col_1>"]
    names += ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in names])
    return tokenizer


TEXT = {  # the keys of the published files, which are of transformers 4.47, with small sizes
    "_flash_attn_2_enabled": True,
    "architectures": ["VLlama3ForCausalLM"],
    "head_dim": 16,
    "hidden_size": 48,
    "intermediate_size": 96,
    "is_llama_config": True,
    "max_position_embeddings": 8192,
    "model_type": "llama",
    "neftune_noise_alpha": 0.0,
    "num_attention_heads": 3,
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "pad_token_id": 2,
    "perceiver_config": {"attention_dropout": 0.0, "model_type": "vllama3"},
    "pixel_shuffle_factor": SCALE,
    "qk_layer_norms": False,
    "rms_norm_eps": 1e-05,
    "rope_interleaved": False,
    "rope_theta": 100000,
    "torch_dtype": "bfloat16",
    "use_resampler": False,
}
VISION = {
    "hidden_size": 32,
    "image_size": SIDE,
    "intermediate_size": 64,
    "max_image_size": {"longest_edge": SIDE},
    "model_type": "smolvlm_vision",
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 8,
    "size": {"longest_edge": 4 * SIDE},
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "use_base_siglip": False,
}


def published_config(rows: int, image_id: int, *, tied: bool = False, **sizes: Any) -> dict[str, Any]:
    """config.json of a published folder. ``sizes``: "text" and "vision", in place of the small ones."""
    return {
        "architectures": ["SmolVLMForConditionalGeneration"],
        "image_token_id": image_id,
        "model_type": "smolvlm",
        "pad_token_id": 128002,
        "scale_factor": sizes.get("scale", SCALE),
        "text_config": TEXT | {"vocab_size": rows} | sizes.get("text", {}),
        "tie_word_embeddings": tied,
        "torch_dtype": "float32",
        "transformers_version": "4.47.1",
        "use_cache": True,
        "use_reentrant_checkpointing": False,
        "vision_config": VISION | sizes.get("vision", {}),
        "vocab_size": rows,
    }


def write_published(folder: Path, *, tied: bool = False, spread: float = 0.15) -> Any:
    """Write the folder, its weights in two files, and return the transformers model in it."""
    import torch
    from transformers import AutoConfig, PreTrainedTokenizerFast, SmolVLMForConditionalGeneration

    tokenizer = smolvlm_tokenizer()
    config = published_config(tokenizer.get_vocab_size(), tokenizer.token_to_id("<image>"), tied=tied)
    folder.mkdir(parents=True)
    written = json.dumps(config, indent=2)
    (folder / "config.json").write_text(written)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        whole = SmolVLMForConditionalGeneration(AutoConfig.from_pretrained(folder)).float().eval()
        for parameter in whole.parameters():  # large enough that outputs depend on all of them
            if parameter.ndim >= 2:
                torch.nn.init.normal_(parameter, std=spread)
    whole.save_pretrained(folder, max_shard_size=400_000)
    (folder / "config.json").write_text(written)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    return whole
