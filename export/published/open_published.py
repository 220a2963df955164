"""A checkpoint as its authors published it -> a model in memory. Nothing is changed, nothing is added."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError
from tokenizers import Tokenizer

from edge_runtime.bundle.published import CONFIG, check_config, read_config, read_licence, wanted_files
from edge_runtime.bundle.stream_format import StreamFormat, TurnEncoder
from edge_runtime.errors import first_line
from export.errors import ExportError
from export.families.registry import family_named
from export.options import Source
from export.published.frame_size import parse_frame
from export.published.quantized.read import read_quantized
from export.published.stream_formats import read_stream_format


@dataclass(frozen=True)
class Publication:
    """What to import, and how it is asked.

    ``origin``: ``owner/name@commit`` of the hub, or the folder; ``licence``: what is known of it;
    ``system_prompt``: a text file with another prompt than the stream format's.
    """

    folder: Path
    stream_format: str
    frame: str
    origin: str
    licence: str | None = None
    system_prompt: Path | None = None


def open_published(published: Publication) -> Source:
    """Load the checkpoint. Raises ExportError or BundleError, the cheap checks first."""
    folder, where = published.folder, published.origin
    config = read_config(folder / CONFIG)
    family_name = check_config(config, where)
    wanted_files((path.name for path in folder.iterdir()), where)
    tokenizer = read_tokenizer(folder)
    family = family_named(family_name)
    picture = parse_frame(published.frame).fitted(family.cell(folder))
    chat = family.chat_format(folder, picture)
    stream_format = read_stream_format(published.stream_format, chat, published.system_prompt)
    check_tokens(tokenizer, stream_format, published)
    weights = packed = None
    try:
        if config.get("quantization_config") is not None:
            weights, packed = read_quantized(folder, config["quantization_config"], where)
        model, backbone = family.open_published(folder, picture, tokenizer.get_vocab_size(), weights)
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:  # of damaged weights
        raise ExportError(
            f"{where}: its weights cannot be read ({first_line(error)}); download it again"
        ) from error
    licence = published.licence or read_licence(folder)
    return Source(
        model,
        tokenizer,
        stream_format,
        backbone,
        model.vision.record()["name"],
        origin={"checkpoint": where, "stream_format": published.stream_format, "frame": published.frame},
        licence=licence or "not stated; see the model's page",
        packed=packed,
    )


def read_tokenizer(folder: Path) -> Tokenizer:
    """Return the tokenizer with exactly the tokens that its authors gave it. Raises ExportError."""
    path = folder / "tokenizer.json"
    try:
        if path.is_file():
            tokenizer = Tokenizer.from_file(str(path))
        else:
            from transformers import AutoTokenizer

            tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False).backend_tokenizer
    except Exception as error:  # the tokenizers library raises nothing more exact
        raise ExportError(f"{path}: no tokenizer that can be read ({first_line(error)})") from error
    for token, number in _added_tokens(folder).items():
        if tokenizer.token_to_id(token) != number:
            raise ExportError(
                f"{path}: token {token} has the id {tokenizer.token_to_id(token)}, but added_tokens.json "
                f"says {number}; the files are of different models, download them again"
            )
    return tokenizer


def _added_tokens(folder: Path) -> dict[str, int]:
    path = folder / "added_tokens.json"
    try:
        added = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError) as error:
        raise ExportError(f"{path}: not JSON ({error}); download it again") from error
    return {str(token): number for token, number in added.items() if isinstance(number, int)}


def check_tokens(tokenizer: Tokenizer, stream_format: StreamFormat, published: Publication) -> None:
    """Raises ExportError when the tokenizer lacks a token that the stream format needs."""
    try:
        TurnEncoder(stream_format, lambda text: tokenizer.encode(text, add_special_tokens=False).ids)
    except ValueError as error:
        raise ExportError(
            f"{published.origin}: --format {published.stream_format} does not fit: {error}; nothing is added "
            "to a published tokenizer, so choose the format that the model was trained for"
        ) from error
