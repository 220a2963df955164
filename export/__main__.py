"""``python -m export CHECKPOINT --out BUNDLE``, and what else there is to do with graphs and engines."""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edge_runtime.atomic_write import write_whole
from edge_runtime.command_line.missing_extra import how_to_install
from edge_runtime.errors import EdgeError

_PATH: Any = click.Path(path_type=Path)
_PUBLICATION = ("stream_format", "frame", "revision", "origin", "licence", "system_prompt")
_ENGINES = ("ort-cpu", "ort-cuda", "tensorrt", "tensorrt-legacy", "tensorrt-rtx")


class _Commands(click.Group):
    """``bundle`` is what is meant when no command is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in {*self.commands, "--help"}:
            args = ["bundle", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_Commands)
def main() -> None:
    """Turn checkpoints into bundles, and bundles into engines.

    `python -m export CHECKPOINT --out BUNDLE` is short for `python -m export bundle ...`.
    """


@contextmanager
def _one_line(subject: Path) -> Iterator[None]:
    """A user's mistake ends in one line and an exit code."""
    try:
        yield
    except EdgeError as error:
        click.echo(f"export: {error}", err=True)
        sys.exit(error.exit_code)
    except ImportError as error:
        click.echo(f"export: {error}; {how_to_install('export,backbone')}", err=True)
        sys.exit(2)
    except OSError as error:
        click.echo(f"export: {error.filename or subject}: {error.strerror or error}", err=True)
        sys.exit(1)


def _progress() -> Callable[[str], None]:
    started = time.monotonic()
    return lambda step: click.echo(f"[{time.monotonic() - started:6.1f} s] {step}", err=True)


@main.command("bundle")
@click.argument("checkpoint", type=_PATH)
@click.option("--out", type=_PATH, help="Folder of the bundle to write.")
@click.option(
    "--format",
    "stream_format",
    metavar="PRESET|FILE",
    help="Stream format of a published model: a preset, or a TOML file (docs/models.md).",
)
@click.option(
    "--frame",
    metavar="W:H@SIDE|WxH",
    help="Frame of a published model: the camera's aspect and the shorter side, or pixels.  "
    "[default: 16:9@224, or the one size that the model sees]",
)
@click.option(
    "--system-prompt",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Text file with the system prompt of a published model, in place of the stream format's.",
)
@click.option("--revision", help="Branch, tag or commit of a model of the hub.")
@click.option("--origin", metavar="OWNER/NAME@COMMIT", help="Where a folder comes from, for the manifest.")
@click.option("--licence", help="Licence of a published model, where its model card states none.")
@click.option("--plan", is_flag=True, help="Say how much memory a published model takes; export nothing.")
@click.option("--name", help="Name of the model; the folder's name by default.")
@click.option(
    "--target",
    type=click.Choice(["ort-cpu", "ort-cuda", "tensorrt", "tensorrt-rtx"]),
    default="ort-cpu",
    show_default=True,
    help="The engine that will run the bundle.",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "fp16", "int8", "int4", "fp8"]),
    help="Of the decoder's weights: int8 by default for ort-cpu, fp16 for the others.",
)
@click.option(
    "--vision-precision",
    type=click.Choice(["fp32", "fp16", "int8"]),
    help="Of the vision graph: int8 is for ort-cpu; by default what the target computes in.",
)
@click.option(
    "--kv",
    type=click.Choice(["int8"]),
    help="Keys and values in int8 (ort-cpu): a quarter of the memory, longer texts sooner, chunks later.",
)
@click.option(
    "--block-size",
    type=click.Choice(["32", "64", "128"]),
    callback=lambda context, parameter, value: value and int(value),
    help="Weights that share a scale (ONNX Runtime, int8 and int4): 32 by default, 64 is faster and coarser.",
)
@click.option(
    "--calibrate",
    metavar="TEXT_OR_CLIPS",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="Text, annotated clips (.jsonl) or video by which int4 is rounded with least loss (GPTQ); may be "
    "repeated.  Vision in int8 takes its scales from the video, or from generated stories.",
)
@click.option(
    "--context-rows",
    type=click.IntRange(min=64),
    help="Tokens that the cache holds; enough for the stream format's window of turns by default.",
)
@click.option(
    "--queries-per-session",
    type=click.IntRange(min=1),
    help="Most questions the runtime puts in one session; as many as in training by default.",
)
@click.option(
    "--threshold",
    type=click.FloatRange(0, 1),
    help="Decision threshold the bundle carries, chosen on validation clips; the checkpoint's by default.",
)
@click.option(
    "--parity-timesteps",
    type=click.IntRange(min=0),
    default=512,
    show_default=True,
    help="Length of the stream over which the bundle is compared with PyTorch; 0 leaves it out.",
)
def bundle_command(checkpoint: Path, out: Path | None, calibrate: tuple[Path, ...], **options: Any) -> None:
    """Turn CHECKPOINT into a bundle that edge-run loads.

    CHECKPOINT is a folder that training wrote, or a published model: a transformers folder, or OWNER/NAME on
    the Hugging Face hub. A published model needs --format.
    """
    progress = _progress()
    plan = options.pop("plan")
    publication = {key: options.pop(key) for key in _PUBLICATION}
    if out is None and not plan:
        raise click.UsageError("Missing option '--out'.")
    with _one_line(out or checkpoint):
        from edge_runtime.bundle.published import is_published

        published = is_published(checkpoint) or not checkpoint.exists()
        if not published and (plan or any(publication.values())):
            given = "plan" if plan else next(key for key in _PUBLICATION if publication[key])
            option = "format" if given == "stream_format" else given.replace("_", "-")
            raise click.UsageError(f"--{option} is for published models; {checkpoint} is none")
        if plan:
            from export.published.plan import print_plan

            return print_plan(checkpoint, publication["revision"], publication["frame"])
        progress("loading PyTorch")
        from export.bundle_writer import export_bundle  # here, so that --help is quick
        from export.options import ExportOptions
        from export.quantization.calibration import is_video
        from export.quantization.vision import frames_of

        videos = (
            [path for path in calibrate if is_video(path)] if options["vision_precision"] == "int8" else []
        )
        texts = calibrate if options["precision"] == "int4" else tuple(set(calibrate) - set(videos))
        calibration = itertools.chain.from_iterable(map(frames_of, videos)) if videos else None
        made = ExportOptions(calibration=calibration, calibrate=texts, **options)
        assert out is not None
        if published:
            from export.published.import_model import import_model

            folder = import_model(checkpoint, out, publication, made, progress)
        else:
            folder = export_bundle(checkpoint, out, made, progress)
    manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    if "parity" in manifest:
        parity = manifest["parity"]
        progress(
            f"parity with {parity['against']} over {parity['timesteps']} timesteps: decisions agree "
            f"{parity['decision_agreement']:.2%}, KL {parity['kl_mean']:.2g}, "
            f"logits within {parity['logit_max_abs_diff']:.3g}"
        )
    size = sum(spec["bytes"] for spec in manifest["files"].values())
    progress(f"done, {size / 1e6:.1f} MB for {manifest['target']}, {manifest['precision']}")
    click.echo(folder)


@main.command("lint")
@click.argument("model", type=_PATH)
@click.option("--target", required=True, type=click.Choice(_ENGINES), help="The engine it is meant for.")
def lint_command(model: Path, target: str) -> None:
    """Say what in the ONNX file MODEL the engine cannot run, or runs wrongly; exit code 3 when anything."""
    with _one_line(model):
        from export.validation.lint import lint, load_graph

        findings = lint(load_graph(model), target)
    for finding in findings:
        click.echo(f"{model}: {finding}")
    if findings:
        sys.exit(3)
    click.echo(f"{model}: nothing that {target} cannot run", err=True)


@main.command("parity")
@click.argument("checkpoint", type=_PATH)
@click.option("--timesteps", type=click.IntRange(min=1), default=512, show_default=True)
@click.option("--only", multiple=True, help="Lowering or precision to measure, e.g. int8; may be repeated.")
@click.option("--json", "json_out", type=_PATH, help="Also write the figures to this file.")
def parity_command(checkpoint: Path, timesteps: int, only: tuple[str, ...], json_out: Path | None) -> None:
    """Compare every lowering and precision of CHECKPOINT with PyTorch on a streamed clip with evictions."""
    progress = _progress()
    with _one_line(checkpoint):
        progress("loading PyTorch")
        from export.bundle_writer import open_checkpoint
        from export.parity_table import all_cases, as_table, measure_all

        cases = [case for case in all_cases() if not only or {case.lowering, case.precision} & set(only)]
        if not cases:
            raise click.UsageError(f"--only {' '.join(only)}: no lowering or precision of that name")
        source = open_checkpoint(checkpoint)
        rows = []
        for row in measure_all(source, timesteps=timesteps, cases=cases, progress=progress):
            rows.append(row)
            decisions, kl = row.parity["decision_agreement"], row.parity["kl_mean"]
            progress(f"{row.case}: decisions agree {decisions:.2%}, KL {kl:.2g}")
            if json_out is not None:  # after every row: all of them take a while
                write_whole(json_out, [json.dumps([row.to_dict() for row in rows], indent=1), "\n"])
    click.echo(as_table(rows))
    if not all(row.passed for row in rows):
        sys.exit(3)


@main.command("calibrate-threshold")
@click.argument("bundle")
@click.argument("annotations", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--false-alarms",
    type=click.FloatRange(min=0),
    default=0.3,
    show_default=True,
    help="Per minute, at most, on questions that nothing answers.",
)
@click.option(
    "--questions", type=click.IntRange(min=0), default=0, show_default=True, help="So many, drawn; 0: all."
)
@click.option("--seed", type=int, default=1, show_default=True, help="Of the draw.")
@click.option(
    "--judge", type=click.Choice(["exact", "fields", "keywords"]), default="exact", show_default=True
)
def calibrate_threshold_command(bundle: str, annotations: Path, false_alarms: float, **asked: Any) -> None:
    """Write the threshold with the best F1 on ANNOTATIONS into BUNDLE, within a limit on false alarms.

    Rounding moves scores, so each precision has a threshold of its own. ANNOTATIONS are validation clips,
    never those that a score is reported on; some of their questions must have no answer.
    """
    with _one_line(annotations):
        from export.validation.threshold import Asked, calibrate_threshold
        from train.rollout.threshold import describe

        asked_for = Asked(annotations, **asked)
        path, best, found = calibrate_threshold(
            bundle, asked_for, false_alarms, lambda line: click.echo(line, err=True)
        )
    click.echo(f"{path}: threshold {best:g}, {describe(found)}")


@main.command("engines")
@click.argument("bundle", type=_PATH)
@click.option("--out", required=True, type=_PATH, help="Folder to write the engines to.")
@click.option(
    "--sm",
    "sms",
    type=int,
    multiple=True,
    default=(86, 89, 120),
    show_default=True,
    help="Compute capability to build for, 89 for 8.9; may be repeated.",
)
def engines_command(bundle: Path, out: Path, sms: tuple[int, ...]) -> None:
    """Build the TensorRT-RTX engines of BUNDLE ahead of time; no GPU is needed."""
    progress = _progress()
    with _one_line(out):
        from export.build_engines import build_engines

        for plan in build_engines(bundle, out, sms, progress=progress):
            click.echo(plan)


@main.command("import-engines")
@click.argument("folder", type=_PATH)
def import_engines_command(folder: Path) -> None:
    """Take the engines in FOLDER, which you built and trust, into this device's engine cache."""
    with _one_line(folder):
        from edge_runtime.backends.tensorrt.engine_cache import EngineCache

        cache = EngineCache()
        for slot in cache.import_engines(folder):
            click.echo(cache.folder / f"{slot}.plan")


if __name__ == "__main__":
    main()
