"""What peers load, made from a checkpoint: onnxruntime-genai's models, in int8 and int4.

    python -m benchmarks.external.runtimes.prepare --checkpoint runs/smol-base --out peers

onnxruntime-genai's builder fails on GGUF: it is fed the checkpoint's decoder as a folder of safetensors.
llama.cpp reads the GGUF file that the checkpoint was made from, as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import click

from edge_runtime.atomic_write import replace_folder
from edge_runtime.command_line.exit import run_command
from edge_runtime.errors import BackendError, ConfigError

BUILDER = "onnxruntime_genai.models.builder"
PRECISIONS = ("int8", "int4", "fp32")


@click.command(help=(__doc__ or "").splitlines()[0])
@click.option("--checkpoint", type=click.Path(exists=True, path_type=Path), required=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder; genai-PRECISION in it.")
@click.option(
    "--precision", "precisions", type=click.Choice(PRECISIONS), multiple=True, default=("int8", "int4")
)
def main(checkpoint: Path, out: Path, precisions: tuple[str, ...]) -> None:
    if find_spec("onnxruntime_genai") is None:
        raise ConfigError("onnxruntime-genai is not installed; run: pip install onnxruntime-genai")
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".decoder-", dir=out) as folder:
        _write_decoder(checkpoint, Path(folder))
        for precision in precisions:
            click.echo(f"onnxruntime-genai, {precision}", err=True)
            click.echo(_build(Path(folder), out, precision))


def _write_decoder(checkpoint: Path, folder: Path) -> None:
    """The decoder alone as transformers writes it, with the checkpoint's tokenizer."""
    from benchmarks.reference.checkpoint import TOKENIZER, load_reference

    decoder = load_reference(checkpoint).decoder
    decoder.generation_config.do_sample = False
    decoder.save_pretrained(folder)
    shutil.copy(checkpoint / TOKENIZER, folder / TOKENIZER)
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": 8192}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _build(decoder: Path, out: Path, precision: str) -> Path:
    """Run the library's builder; the folder appears whole or not at all."""
    result = out / f"genai-{precision}"
    work = out / f".genai-{precision}.{os.getpid()}"
    command = [sys.executable, "-m", BUILDER, "-i", str(decoder), "-o", str(work), "-p", precision]
    command += ["-e", "cpu", "-c", str(out / ".builder-cache")]
    # Blocks and arithmetic as ours, and logits of the last position only: what it is best at.
    command += ["--extra_options", "prune_lm_head=true", "block_size=32", "accuracy_level=4"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise BackendError(f"onnxruntime-genai's builder failed ({reason[:300]})")
        replace_folder(work, result)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(out / ".builder-cache", ignore_errors=True)
    return result


if __name__ == "__main__":
    run_command(main)
