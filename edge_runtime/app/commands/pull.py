"""``edge-run pull``: from a name on the Hugging Face hub to a bundle that ``--bundle NAME`` finds."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from edge_runtime.command_line.log_options import log_options
from edge_runtime.errors import BundleError, ConfigError

_DEFAULT_PARITY = 16
"""Timesteps compared with PyTorch: each takes seconds for billions of parameters."""


@dataclass(frozen=True)
class Import:
    """How a download becomes a bundle; None for the usual choice of ``python -m export``."""

    stream_format: str
    frame: str | None
    precision: str | None
    target: str
    kv: str | None
    parity_timesteps: int

    def arguments(self) -> list[str]:
        """Return them as options of ``python -m export``."""
        given = {
            "--format": self.stream_format,
            "--frame": self.frame,
            "--precision": self.precision,
            "--target": self.target,
            "--kv": self.kv,
            "--parity-timesteps": str(self.parity_timesteps),
        }
        return [part for option, value in given.items() if value is not None for part in (option, value)]


@click.command("pull")
@click.argument("name", metavar="OWNER/NAME")
@click.option("--revision", help="Branch, tag or commit.  [default: the newest commit]")
@click.option(
    "--format",
    "stream_format",
    metavar="PRESET|FILE",
    required=True,
    help="Stream format that the model was trained for: a preset, or a TOML file.",
)
@click.option(
    "--frame",
    metavar="W:H@SIDE",
    help="The camera's aspect, and pixels of the frame's shorter side.  "
    "[default: 16:9@224, or the one size that the model sees]",
)
@click.option(
    "--precision", metavar="P", help="Of the weights: int8, int4, fp16 ...  [default: the target's]"
)
@click.option(
    "--target", metavar="T", default="ort-cpu", show_default=True, help="The engine that will run it."
)
@click.option("--kv", metavar="TYPE", help="int8: keys and values in a quarter of the memory (ort-cpu).")
@click.option("--parity-timesteps", type=click.IntRange(min=0), default=_DEFAULT_PARITY, hidden=True)
@click.option("--as", "bundle", metavar="BUNDLE", help="Name of the bundle.  [default: NAME]")
@log_options
def pull(name: str, revision: str | None, bundle: str | None, **options: object) -> int:
    """Download a published model and make a bundle of it.

    Afterwards `edge-run SOURCE --bundle NAME` runs it, and `edge-run models` lists it. Interrupted, the same
    command continues. HF_TOKEN gives access to gated models; HF_HOME and XDG_CACHE_HOME say where files go.
    """
    from edge_runtime.bundle.bundle_cache import models_folder
    from edge_runtime.bundle.hub import fetch
    from edge_runtime.bundle.published import CONFIG, default_frame, is_research_only, read_config

    how = Import(**options)  # type: ignore[arg-type]
    called = bundle or name.rpartition("/")[2]
    check_bundle_name(called)
    check_export_is_installed()
    fetched = fetch(name, revision, lambda line: click.echo(line, err=True))
    if fetched.licence is not None and is_research_only(fetched.licence):
        click.echo(f"{name}: its licence is {fetched.licence}: not for commercial use", err=True)
    if how.frame is None:
        how = replace(how, frame=default_frame(read_config(fetched.folder / CONFIG)))
    folder = models_folder() / called
    if is_made(folder, fetched.origin, how):
        click.echo(f"{name}: already there, nothing to do", err=True)
    else:
        make_bundle(fetched.folder, folder, [fetched.origin, fetched.licence], how)
    click.echo(called)
    return 0


def check_bundle_name(name: str) -> None:
    """Raises ConfigError for a name that is no plain file name, or that of a shipped bundle."""
    from edge_runtime.bundle.manifest import SHIPPED

    if Path(name).name != name or name.startswith((".", "-")):
        raise ConfigError(f"--as {name}: expected a plain name, such as doorbell")
    if (SHIPPED / name).is_dir():
        raise ConfigError(f"--as {name}: a bundle of that name is shipped; choose another name")


def check_export_is_installed() -> None:
    """Raises ConfigError when the packages that make bundles are not there."""
    from edge_runtime.bundle.hub import missing_packages
    from edge_runtime.command_line.missing_extra import how_to_install

    missing = missing_packages(("torch", "transformers", "safetensors", "huggingface_hub", "onnx"))
    if missing:
        raise ConfigError(
            f"pull makes a bundle here, and {missing[0]} is not installed; {how_to_install('export')}, "
            "or pull on another machine and copy the bundle"
        )


def make_bundle(source: Path, folder: Path, about: Sequence[str | None], how: Import) -> None:
    """Run the export in a process of its own, whose memory is free afterwards. ``about``: origin and licence.

    Raises BundleError when it fails; it has said why.
    """
    origin, licence = about
    command = [sys.executable, "-m", "export", str(source), "--out", str(folder), "--origin", str(origin)]
    command += [*(("--licence", licence) if licence else ()), *how.arguments()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    if code:
        raise BundleError(f"{origin}: is downloaded, but no bundle was made (export ended with {code})")


def is_made(folder: Path, origin: str, how: Import) -> bool:
    """Whether ``folder`` holds the bundle that this import would make. False for a format that is a file,
    because the file may have changed.
    """
    try:
        manifest = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
        found = dict(manifest["origin"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    wanted = {"checkpoint": origin, "stream_format": how.stream_format, "frame": how.frame}
    return (
        not Path(how.stream_format).is_file()
        and found == wanted
        and manifest.get("target") == how.target
        and manifest.get("kv") == how.kv
        and how.precision in (None, manifest.get("precision"))
    )
