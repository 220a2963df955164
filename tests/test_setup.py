"""`make demo` and `make test` on machines that lack something: one line says what, and nothing is done twice.

These run the real scripts/setup.sh in a folder of their own. Around it stands what a test machine cannot be
asked for: a package list with holes, an apt-get without network, an account without sudo.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pip
import pytest

ROOT = Path(__file__).resolve().parent.parent
TOOLS = [
    "bash",
    "cat",
    "cut",
    "dirname",
    "env",
    "grep",
    "id",
    "mkdir",
    "rm",
    "sed",
    "sha256sum",
    "sort",
    "tail",
    "touch",
]
SETUP_FILES = ["scripts/setup.sh", "scripts/no-deps.txt", "pyproject.toml", "constraints.txt"]
SYSTEM_PYTHON = Path("/usr/bin/python3")

pytestmark = pytest.mark.skipif(not SYSTEM_PYTHON.exists(), reason="needs the distribution's Python")


class Machine:
    """A copy of the set-up in a folder with a space, and a PATH that holds only what the test puts there."""

    def __init__(self, folder: Path) -> None:
        self.tree = folder / "my project"
        self.bin = folder / "bin"
        self.calls = folder / "calls"
        (self.tree / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        for name in SETUP_FILES:
            shutil.copy(ROOT / name, self.tree / name)
        for tool in TOOLS:
            if found := shutil.which(tool):
                (self.bin / tool).symlink_to(found)

    def command(self, path: Path, script: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def has_packages(self, *, missing: str = "") -> None:
        hole = f"case $package in {missing}) continue ;; esac; " if missing else ""
        self.command(
            self.bin / "dpkg-query",
            f'for package in "${{@:3}}"; do {hole}printf "%s=installed " "$package"; done',
        )
        self.command(self.bin / "apt-get", f"echo apt-get \"$@\" >>'{self.calls}'")

    def has_venv_that_records(self) -> None:
        self.command(self.tree / ".venv/bin/python", f"echo python \"$@\" >>'{self.calls}'")

    def setup(self, profile: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["/bin/bash", str(self.tree / "scripts" / "setup.sh"), profile],
            env={"PATH": str(self.bin), "HOME": str(self.tree), "LC_ALL": "C", **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def installs(self) -> list[str]:
        lines = self.calls.read_text().splitlines() if self.calls.exists() else []
        self.calls.unlink(missing_ok=True)
        return [line for line in lines if " install " in line]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def only_error(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1, result
    (line,) = result.stderr.splitlines()
    assert line.startswith("setup: ")
    return line


@pytest.mark.parametrize("path", [*sorted((ROOT / "scripts").glob("*.sh")), ROOT / ".ci" / "run"], ids=str)
def test_scripts_parse(path: Path) -> None:
    subprocess.run(["/bin/bash", "-n", str(path)], check=True)
    assert os.access(path, os.X_OK)


def test_unknown_profile_is_a_usage_error(machine: Machine) -> None:
    result = machine.setup("everything")
    assert result.returncode == 2
    assert result.stderr == "usage: scripts/setup.sh demo|runtime|test\n"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("W: Temporary failure resolving 'a.example'\\nE: Unable to locate package x", "no network"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend.", "another package manager is running"),
        ("E: You don't have enough free space: No space left on device", "the disk is full"),
        ("E: Unable to locate package x", "E: Unable to locate package x"),
        ("", "see build/setup-apt.log"),
    ],
)
def test_failing_apt_is_one_line_with_the_reason(machine: Machine, output: str, reason: str) -> None:
    machine.has_packages(missing="gstreamer1.0-libav")
    machine.command(machine.bin / "id", "echo 0")
    machine.command(machine.bin / "apt-get", f'printf "{output}\\n" >&2; exit 100')
    assert only_error(machine.setup("demo")) == (
        f"setup: cannot install system packages: {reason}; "
        "run `sudo apt-get install gstreamer1.0-libav` yourself, then `make demo` again"
    )


def test_neither_root_nor_sudo(machine: Machine) -> None:
    machine.has_packages(missing="python3-venv|python3-gst-1.0")
    machine.command(machine.bin / "id", "echo 1000")
    error = only_error(machine.setup("demo"))
    assert "neither root nor sudo" in error
    assert "`apt-get install python3-venv python3-gst-1.0`" in error
    assert machine.installs() == []


def test_sudo_that_refuses(machine: Machine) -> None:
    machine.has_packages(missing="python3-venv")
    machine.command(machine.bin / "id", "echo 1000")
    machine.command(machine.bin / "sudo", "echo 'sudo: a password is required' >&2; exit 1")
    error = only_error(machine.setup("demo"))
    assert "sudo was refused; run `sudo apt-get install python3-venv`" in error
    assert machine.installs() == []


def test_no_apt_and_no_gstreamer(machine: Machine) -> None:
    """The search path of a Python without gi stands for a distribution without apt-get."""
    (machine.tree / "gi.py").write_text("raise ImportError")
    error = only_error(machine.setup("demo", PYTHONPATH=str(machine.tree)))
    assert "no apt-get here" in error and "GStreamer 1.20" in error


def test_foreign_venv_is_kept(machine: Machine) -> None:
    machine.has_packages()
    machine.command(machine.tree / ".venv/bin/python", "exit 1")
    assert "made by something else" in only_error(machine.setup("demo"))
    assert (machine.tree / ".venv/bin/python").exists()


@pytest.mark.gst
def test_pip_without_network(machine: Machine) -> None:
    """Real pip, in a virtual environment of its own, against a closed port."""
    machine.has_packages()
    venv = machine.tree / ".venv"
    subprocess.run(
        [SYSTEM_PYTHON, "-m", "venv", "--without-pip", "--system-site-packages", str(venv)], check=True
    )
    (site_packages,) = venv.glob("lib/python*/site-packages")
    (site_packages / "pip").symlink_to(Path(pip.__file__).parent)
    closed = {
        "PIP_CONFIG_FILE": "/dev/null",
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_RETRIES": "1",
    }
    result = machine.setup("demo", **closed)
    assert only_error(result) == (
        "setup: cannot install Python packages (-e .[cpu]): no network; "
        "run `make demo` again when that is fixed"
    )
    assert not (venv / ".installed-by-setup").exists()


def test_system_packages_of_the_tests_are_for_the_tests(machine: Machine) -> None:
    machine.has_packages(missing="*")
    machine.command(machine.bin / "id", "echo 0")
    machine.has_venv_that_records()
    assert machine.setup("demo").returncode == 0
    assert "plugins-ugly" not in machine.installs()[0]
    assert machine.setup("test").returncode == 0
    of_runtime = "gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-ugly mosquitto gir1.2-gst-plugins-bad-1.0"
    assert machine.installs()[0].endswith(f" {of_runtime} chromium chromium-driver")
    assert machine.setup("runtime").returncode == 0
    assert machine.installs()[0].endswith(f" {of_runtime}")


def packages(installs: list[str]) -> list[str]:
    """What pip is asked for in each of its runs, with the options that choose versions."""
    return [line.partition(" --progress-bar off ")[2] for line in installs]


def test_installs_once(machine: Machine) -> None:
    machine.has_packages()
    machine.has_venv_that_records()
    assert machine.setup("demo").returncode == 0
    assert packages(machine.installs()) == ["-c constraints.txt -e .[cpu]"]
    again = machine.setup("demo")
    assert (again.returncode, again.stdout, again.stderr, machine.installs()) == (0, "", "", [])

    assert machine.setup("test").returncode == 0
    torch, everything, backbone, *_ = packages(machine.installs())
    assert torch == "-c constraints.txt torch"
    assert everything == "-c constraints.txt -e .[cpu,train-core,export,bench,docs,dev]"
    assert backbone == "-c constraints.txt --no-deps -r scripts/no-deps.txt"
    for narrower in ("demo", "runtime", "test"):
        machine.setup(narrower)
        assert machine.installs() == []


@pytest.mark.parametrize(
    ("versions", "options"),
    [("newest", "--upgrade --upgrade-strategy eager"), ("lowest", "-c build/lowest.txt")],
)
def test_without_the_lock(machine: Machine, versions: str, options: str) -> None:
    machine.has_packages()
    machine.has_venv_that_records()
    machine.setup("runtime")
    machine.installs()
    assert machine.setup("runtime", VERSIONS=versions).returncode == 0
    assert packages(machine.installs()) == [f"{options} -e .[cpu,dev]"]
    assert machine.setup("demo").returncode == 0  # back to the lock
    assert packages(machine.installs()) == ["-c constraints.txt -e .[cpu]"]


def test_the_lowest_versions_are_the_bounds_of_pyproject(machine: Machine) -> None:
    machine.has_packages()
    machine.has_venv_that_records()
    machine.setup("runtime", VERSIONS="lowest")
    pins = (machine.tree / "build" / "lowest.txt").read_text().split()
    names = [pin.partition("==")[0] for pin in pins]
    assert len(set(names)) == len(names), "a package has two lower bounds"
    assert {"click", "numpy", "onnxruntime", "tokenizers"} <= set(names)
    text = (ROOT / "pyproject.toml").read_text()
    assert all(pin.replace("==", ">=") in text for pin in pins)


def test_training_has_no_lowest_versions(machine: Machine) -> None:
    result = machine.setup("test", VERSIONS="lowest")
    assert result.returncode == 2
    assert result.stderr == "setup: VERSIONS=lowest is for demo and runtime\n"


def test_unknown_versions_are_a_usage_error(machine: Machine) -> None:
    result = machine.setup("demo", VERSIONS="oldest")
    assert result.returncode == 2
    assert result.stderr == "setup: VERSIONS must be locked, newest or lowest, not oldest\n"


def test_the_lock_names_exact_versions_and_no_place() -> None:
    """Every package that pyproject.toml asks for is pinned, and nothing says where it comes from."""
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1] != "#"]
    assert all(re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; .+)?", line) for line in lines)
    assert "://" not in (ROOT / "constraints.txt").read_text()
    pinned = {line.partition("==")[0] for line in lines}
    asked = {*re.findall(r'"([\w-]+)>=', (ROOT / "pyproject.toml").read_text().split("[project]")[1])}
    asked |= {*(ROOT / "scripts" / "no-deps.txt").read_text().splitlines()[1:]}
    other_platforms = {"onnxruntime-gpu", "tensorrt", "gstreamer-python"}
    never_together = {"optimum", "gptqmodel"}  # the extra gptq: with the torch and NumPy of its choice
    assert asked - other_platforms - never_together <= pinned


@pytest.mark.skipif(
    Path("/proc/driver/nvidia/version").exists(), reason="has an NVIDIA driver: CUDA is wanted"
)
@pytest.mark.parametrize(
    ("chosen", "reachable", "options", "word"),
    [
        ("2.13.0+cpu", False, "", ""),
        ("2.13.0", True, " --extra-index-url https://download.pytorch.org/whl/cpu", ""),
        ("2.13.0", False, "", "a download of about 3 GB"),
    ],
)
def test_torch_for_the_cpu(machine: Machine, chosen: str, reachable: bool, options: str, word: str) -> None:
    """pip's own choice is asked for first; without a build for the CPU PyTorch's index is tried."""
    machine.has_packages()
    machine.command(
        machine.tree / ".venv/bin/python",
        f"""case "$*" in
            *"import torch"*) exit 1 ;;
            *urlopen*) exit {int(not reachable)} ;;
            *--dry-run*) echo "{{}}" ;;
            *json.load*) cat >/dev/null; echo {chosen} ;;
            *) echo python "$@" >>'{machine.calls}' ;;
        esac""",
    )
    result = machine.setup("test")
    assert result.returncode == 0, result
    assert packages(machine.installs())[0] == f"-c constraints.txt{options} torch"
    assert (word or "ready") in result.stdout
    assert bool(word) == ("GB" in result.stdout)


@pytest.mark.parametrize("changed", SETUP_FILES)
def test_installs_again_when_the_requirements_changed(machine: Machine, changed: str) -> None:
    machine.has_packages()
    machine.has_venv_that_records()
    machine.setup("demo")
    machine.installs()
    with (machine.tree / changed).open("a") as file:
        file.write("# changed\n")
    machine.setup("demo")
    assert len(machine.installs()) == 1


def test_installs_again_after_a_failure(machine: Machine) -> None:
    machine.has_packages()
    machine.command(
        machine.tree / ".venv/bin/python",
        '[ "$2" != pip ] || { echo "ERROR: No matching distribution"; exit 1; }',
    )
    assert "(-e .[cpu]): ERROR: No matching distribution; run" in only_error(machine.setup("demo"))
    machine.has_venv_that_records()
    assert machine.setup("demo").returncode == 0
    assert len(machine.installs()) == 1


def in_debian(machine: Machine, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/bash", str(ROOT / "scripts" / "in_debian.sh"), *words],
        env={"PATH": str(machine.bin), "LC_ALL": "C"},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_another_release_names_what_it_needs(machine: Machine) -> None:
    usage = in_debian(machine, "trixie")
    assert (usage.returncode, usage.stderr) == (2, "usage: scripts/in_debian.sh RELEASE COMMAND...\n")
    machine.command(machine.bin / "id", "echo 1000")
    refused = in_debian(machine, "trixie", "make", "demo")
    assert refused.returncode == 1
    assert refused.stderr == "in_debian: needs root; run `sudo scripts/in_debian.sh trixie make demo`\n"
    machine.command(machine.bin / "id", "echo 0")
    lacking = in_debian(machine, "trixie", "make", "demo")
    assert lacking.returncode == 1
    assert "needs debootstrap; run `apt-get install debootstrap" in lacking.stderr
