"""The wheel in a clean environment: another folder, another user, and modules of the user's in the way."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hostile_folder import write_hostile_modules

ROOT = Path(__file__).resolve().parent.parent
SYSTEM_PYTHON = "/usr/bin/python3"  # GStreamer's Python bindings are built for it
NO_NETWORK = re.compile(r"name resolution|network is unreachable|NewConnectionError|ConnectTimeout", re.I)

pytestmark = [pytest.mark.slow, pytest.mark.gst]


def run(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=200, **options)  # type: ignore[call-overload]


def prepare(*command: str | Path, path: str | None = None) -> None:
    """Run a step of the installation with PYTHONPATH set to ``path``; skip without network."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = run([*command], env=environment if path is None else {**environment, "PYTHONPATH": path})
    if done.returncode != 0 and NO_NETWORK.search(done.stdout + done.stderr):
        pytest.skip("no network: packages cannot be installed")
    assert done.returncode == 0, done.stdout + done.stderr


class Installation:
    """An environment with the wheel, and a user without rights who works in a folder of their own."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "venv" / "bin"
        self.home = folder / "home"
        self.projects = folder / "projects"

    def run(self, program: str, *arguments: str, path: str = "") -> subprocess.CompletedProcess[str]:
        """Run a program of the environment, or of the system, with a user's folder as PYTHONPATH."""
        options: dict[str, object] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            options = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        return run(
            [self.bin / program if (self.bin / program).exists() else program, *arguments],
            cwd=self.projects,
            env={"PATH": os.defpath, "HOME": str(self.home), "LANG": "C.UTF-8", "PYTHONPATH": path},
            **options,
        )


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    pytest.importorskip("build")
    if run([SYSTEM_PYTHON, "-c", "import gi, venv"]).returncode != 0:
        pytest.skip(f"needs {SYSTEM_PYTHON} with GStreamer's bindings and venv")
    folder = Path(tempfile.mkdtemp(prefix="edge-run-wheel-"))  # tmp_path is closed to other users
    try:
        folder.chmod(0o755)
        made = Installation(folder)
        for writable in (made.home, made.projects):
            writable.mkdir()
            writable.chmod(0o777)
        write_hostile_modules(made.projects)
        prepare(sys.executable, "-m", "build", "--outdir", folder, ROOT, path=os.pathsep.join(sys.path))
        (wheel,) = folder.glob("*.whl")
        prepare(SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", "--without-pip", folder / "venv")
        pip = [sys.executable, "-m", "pip", f"--python={made.bin / 'python'}", "install", "--no-input"]
        prepare(*pip, "--no-compile", "-c", ROOT / "constraints.txt", f"{wheel}[cpu]")
        yield made
    finally:
        shutil.rmtree(folder)


def test_the_version(installation: Installation) -> None:
    version = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert version is not None
    assert installation.run("edge-run", "--version").stdout == f"edge-run {version[1]}\n"


def test_a_program_opens_nano(installation: Installation) -> None:
    code = "import edge_runtime; print(edge_runtime.__file__, type(edge_runtime.open('nano')).__name__)"
    done = installation.run("python", "-c", code)
    file, name = done.stdout.split()
    assert name == "StreamSession" and Path(file).is_relative_to(installation.bin.parent), done.stderr


def test_the_sample_with_modules_in_the_way(installation: Installation) -> None:
    done = installation.run("edge-run", "sample", path=str(installation.projects))
    here = run([sys.executable, "-m", "edge_runtime", "sample"], cwd=ROOT)
    assert done.returncode == 0 and done.stdout.count("\n") > 3, done.stderr
    assert done.stdout == here.stdout


def test_doctor_and_bench_with_modules_in_the_way(installation: Installation) -> None:
    done = installation.run("edge-run", "doctor", path=str(installation.projects))
    assert done.returncode == 0, done.stdout + done.stderr
    # Its packages are not installed here. That is said by our package, not by the one in the way.
    done = installation.run("edge-run", "bench", "--help", path=str(installation.projects))
    assert "pip install 'streampro-edge[bench]'" in done.stderr


def test_the_element_with_modules_in_the_way(installation: Installation) -> None:
    done = installation.run("edge-run", "plugin", "install", path=str(installation.projects))
    if "python3-plugin-loader" in done.stderr:
        pytest.skip("needs GStreamer's loader of Python plugins")
    assert done.returncode == 0, done.stderr
    done = installation.run("gst-inspect-1.0", "streampro", path=str(installation.projects))
    assert "Element Properties" in done.stdout, done.stderr


def test_python_m_train_takes_what_python_finds_first(installation: Installation) -> None:
    done = installation.run("python", "-m", "train", "--help")
    assert "the user's train was imported" in done.stderr
    if sys.version_info >= (3, 11):
        done = installation.run("python", "-P", "-m", "train", "--help")
        assert "user's" not in done.stderr
        assert "Usage: python -m train" in done.stdout or "pip install 'streampro-edge[train]'" in done.stderr
