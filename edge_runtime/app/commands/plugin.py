"""``edge-run plugin install``: makes the element `streampro` known to every GStreamer program of this user.

A small loader file goes into GStreamer's plugin folder; whether it works is proved by asking
``gst-inspect-1.0`` in an environment as clean as another program's may be.
"""

from __future__ import annotations

import os
import platform
import shutil
import site
import subprocess
import sys
import sysconfig
from importlib.util import find_spec
from pathlib import Path

import click

from edge_runtime.app.commands.help import Group
from edge_runtime.atomic_write import whole_file
from edge_runtime.errors import ConfigError, EdgeError

ELEMENT = "streampro"
LOADER = "streampro_loader.py"
_LOADER_PACKAGE = "gstreamer1.0-python3-plugin-loader"
_PROOF_TIMEOUT_S = 60


@click.group("plugin", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
def plugin() -> None:
    """Install or remove the GStreamer element `streampro`."""


@plugin.command("install")
@click.option(
    "--user/--system",
    default=True,
    show_default=True,
    help="For this user, or for all users.",
)
def install(user: bool) -> int:
    """Make gst-inspect-1.0, gst-launch-1.0 and other programs find `streampro`."""
    target = install_loader(plugin_folder(user=user))
    forget_registry()
    problem = prove()
    if problem is not None:
        raise EdgeError(f"{target}: installed, but {problem}")
    click.echo(f"installed {target}; try: gst-inspect-1.0 {ELEMENT}", err=True)
    return 0


@plugin.command("remove")
@click.option("--user/--system", default=True, show_default=True, help="As it was installed.")
def remove(user: bool) -> int:
    """Undo `edge-run plugin install`."""
    target = plugin_folder(user=user) / LOADER
    if not target.exists():
        raise ConfigError(f"{target}: not installed there; nothing to remove")
    _write_guarded(target, lambda: target.unlink())
    forget_registry()
    click.echo(f"removed {target}", err=True)
    return 0


def plugin_folder(*, user: bool) -> Path:
    """Where GStreamer's Python loader looks. Raises ConfigError when the system's folder is not known."""
    if user:
        return Path.home() / ".gstreamer-1.0" / "plugins" / "python"
    triplet = sysconfig.get_config_var("MULTIARCH") or f"{platform.machine()}-linux-gnu"
    for parent in (Path("/usr/lib") / triplet, Path("/usr/lib64"), Path("/usr/lib")):
        if (parent / "gstreamer-1.0").is_dir():
            return parent / "gstreamer-1.0" / "python"
    raise ConfigError("GStreamer's plugin folder is not in /usr/lib; install it for this user with --user")


def install_loader(folder: Path) -> Path:
    """Write the loader into ``folder``; the path written. Raises EdgeError when that cannot be done."""
    text = loader_text(package_folders())
    target = folder / LOADER

    def write() -> None:
        with whole_file(target) as temporary:
            temporary.write_text(text, encoding="utf-8")

    _write_guarded(target, write)
    return target


def loader_text(folders: list[str]) -> str:
    """The loader file with ``folders`` filled in. Raises EdgeError when this installation lacks it."""
    spec = find_spec("pipelines")
    for root in spec.submodule_search_locations or () if spec is not None else ():
        path = Path(root) / "plugins" / "python" / LOADER
        if path.is_file():
            empty = "FOLDERS: tuple[str, ...] = ()"
            text = path.read_text(encoding="utf-8")
            assert empty in text
            return text.replace(empty, f"FOLDERS: tuple[str, ...] = {tuple(folders)!r}")
    raise EdgeError(f"{LOADER} is missing from the package pipelines; install streampro-edge again")


def package_folders() -> list[str]:
    """Folders the loader adds to Python's path: where this program's packages come from, best first."""
    folders = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if Path(path).is_dir()]
    spec = find_spec("pipelines")
    for root in spec.submodule_search_locations or () if spec is not None else ():
        parent = str(Path(root).resolve().parent)
        if parent not in folders:
            folders.append(parent)
    return folders


def forget_registry() -> None:
    """Remove GStreamer's cache of plugins: one that failed to load stays on its black list otherwise."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gstreamer-1.0"
    for path in cache.glob("registry.*.bin"):
        path.unlink(missing_ok=True)


def prove() -> str | None:
    """None when a program with a clean environment finds the element, else what is wrong and what to do."""
    inspect = shutil.which("gst-inspect-1.0")
    if inspect is None:
        return "gst-inspect-1.0 is missing; install it with `sudo apt-get install -y gstreamer1.0-tools`"
    kept = ("HOME", "XDG_CACHE_HOME", "LANG")
    environment = {"PATH": os.defpath, **{name: os.environ[name] for name in kept if name in os.environ}}
    try:
        done = subprocess.run(
            [inspect, ELEMENT],
            capture_output=True,
            text=True,
            timeout=_PROOF_TIMEOUT_S,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"gst-inspect-1.0 {ELEMENT} does not answer within {_PROOF_TIMEOUT_S} s"
    if done.returncode == 0 and "Element Properties" in done.stdout:
        return None
    has_loader = subprocess.run(
        [inspect, "--plugin", "python"],
        capture_output=True,
        timeout=_PROOF_TIMEOUT_S,
        env=environment,
        check=False,
    )
    if has_loader.returncode != 0:
        return (
            "GStreamer cannot load elements written in Python; install the loader with "
            f"`sudo apt-get install -y {_LOADER_PACKAGE}`"
        )
    reasons = [line for line in done.stderr.splitlines() if "Error: " in line]
    version = ".".join(map(str, sys.version_info[:2]))
    return (
        f"GStreamer's Python cannot load it ({reasons[-1] if reasons else 'no reason given'}); make the "
        f"environment with /usr/bin/python3 (this one is Python {version}) and --system-site-packages"
    )


def _write_guarded(target: Path, write: object) -> None:
    assert callable(write)
    try:
        write()
    except OSError as error:
        raise EdgeError(
            f"{target}: cannot be written ({error.strerror}); use --user, or run it with sudo"
        ) from None
