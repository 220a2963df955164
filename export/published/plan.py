"""``python -m export MODEL --plan``: what a published model will take, before anything of it is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from edge_runtime.bundle.hub import fetch_config
from edge_runtime.bundle.memory_plan import MemoryPlan, activation_bytes, cache_bytes, describe_fit, gigabytes
from edge_runtime.bundle.presets import load_preset, preset_names
from edge_runtime.bundle.published import CONFIG, check_config, default_frame, is_published, read_config
from export.published.frame_size import parse_frame
from export.published.sizes import export_memory

_TEXT_TOKENS_PER_TURN = 22
"""Label, chat markers and decision."""
_TURNS, _SHORTER = 200, 50
_WEIGHT_BYTES = {"int4": 0.5 + 4 / 32, "int8": 1 + 4 / 32, "fp16": 2.0}
"""Per weight, with a scale of 4 bytes for each 32."""


@dataclass(frozen=True)
class Sizes:
    """What config.json says of a model."""

    layers: int
    kv_heads: int
    head_dim: int
    width: int
    vocab: int
    text: int
    """Parameters of the decoder's layers."""
    vision: int
    parameters: int
    """All of them; an output matrix that is the embedding counts once."""
    frame: tuple[int, int]
    frame_tokens: int
    turns: int = _TURNS
    """Turns of the longest window among the presets of its family."""


def read_sizes(path: Path, frame: str, where: str) -> Sizes:
    """Read them from a config.json: the model is built on the meta device. Raises EdgeError."""
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    from export.families.registry import family_named

    family_name = check_config(read_config(path), where)
    family = family_named(family_name)
    size = parse_frame(frame).fitted(family.cell(path.parent))
    config = AutoConfig.from_pretrained(path.parent, trust_remote_code=False)
    with torch.device("meta"):
        whole = AutoModelForImageTextToText.from_config(config)
    text, inside = config.text_config, whole.model
    heads = text.num_attention_heads
    decoder = inside.text_model if hasattr(inside, "text_model") else inside.language_model
    return Sizes(
        layers=text.num_hidden_layers,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // heads,
        width=text.hidden_size,
        vocab=text.vocab_size,
        text=_count(decoder.layers),
        vision=_count(inside) - _count(decoder),
        parameters=_count(whole),
        frame=size,
        frame_tokens=family.published_frame_tokens(path.parent, size),
        turns=_longest_window(family_name),
    )


def _count(module: Any) -> int:
    return sum(math.prod(weight.shape) for weight in module.parameters())


def _longest_window(family: str) -> int:
    presets = [load_preset(name) for name in preset_names()]
    return max(one.stream_format.window_turns for one in presets if family in one.family)


def plan_for(sizes: Sizes, precision: str, kv: str = "", turns: int = _TURNS) -> MemoryPlan:
    """Return the plan of the bundle that an export would write: fp16 for a GPU, the others for a CPU.

    ``kv``: type of the cache, that of the target when empty.
    """
    half = precision == "fp16"
    kv = kv or ("float16" if half else "float32")
    slots = turns * (sizes.frame_tokens + _TEXT_TOKENS_PER_TURN)
    weights = (sizes.text + sizes.vocab * sizes.width) * _WEIGHT_BYTES[precision]
    shape = (sizes.layers, 2, sizes.kv_heads, slots, sizes.head_dim)
    return MemoryPlan(
        weights=int(weights + sizes.vision * (2 if half else 4)),
        embedding=sizes.vocab * sizes.width * 2,
        cache=cache_bytes(shape, kv),
        activations=activation_bytes(sizes.width, sizes.vocab, sizes.frame_tokens, sizes.frame),
    )


def table(sizes: Sizes) -> list[str]:
    """Return one line for each precision and size of cache."""
    lines = [f"{'weights':<8} {'KV cache':<22} {'weights':>9} {'cache':>9} {'other':>8} {'in all':>9}  fits"]
    rows = [
        ("int4", "float32", sizes.turns),
        ("int4", "int8", sizes.turns),
        ("int4", "int8", _SHORTER),
        ("int8", "int8", sizes.turns),
        ("fp16", "float16", sizes.turns),
    ]
    for precision, kv, turns in rows:
        plan = plan_for(sizes, precision, kv, turns)
        cells = [plan.weights, plan.cache, plan.activations + plan.program, plan.total()]
        shown = " ".join(f"{gigabytes(size):>{9 if i != 2 else 8}}" for i, size in enumerate(cells))
        lines.append(f"{precision:<8} {f'{kv}, {turns} turns':<22} {shown}  {describe_fit(plan.fits())}")
    return lines


def print_plan(source: Path, revision: str | None, frame: str | None) -> None:
    """Print the plan of a folder, or of a repository of which only config.json is fetched."""
    path = source / CONFIG if is_published(source) else fetch_config(str(source), revision)
    sizes = read_sizes(path, frame or default_frame(read_config(path)), str(source))
    height, width = sizes.frame
    click.echo(
        f"{source}: {sizes.parameters / 1e9:.2f} B parameters, frame {width}x{height}, "
        f"{sizes.frame_tokens} visual tokens"
    )
    click.echo("\n".join(table(sizes)))
    click.echo(
        f"The export itself needs about {gigabytes(export_memory(sizes.vocab * sizes.width))} of memory."
    )
