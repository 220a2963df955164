"""Downloads from a hub on loopback, with the hub's own client: pinned, resumed, refused."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_server import COMMIT, Hub

pytest.importorskip("huggingface_hub")

ROOT = Path(__file__).parents[3]
NAME = "acme/tiny-vl"
CONFIG = {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForConditionalGeneration"]}
CARD = b"---\nlicense: other\nlicense_name: qwen-research\n---\n# Tiny\n"
FILES = {
    "config.json": json.dumps(CONFIG).encode(),
    "tokenizer.json": b"{}",
    "model.safetensors": bytes(range(256)) * 4000,
    "pytorch_model.bin": b"a pickle",
    "modeling_tiny.py": b"print('code')",
    "assets/large.safetensors": b"not at the top",
    "README.md": CARD,
}
FETCH = """
import sys
from edge_runtime.bundle.hub import fetch
from edge_runtime.errors import EdgeError
try:
    fetched = fetch(sys.argv[1], *sys.argv[2:3])
except EdgeError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
print(fetched.folder, fetched.origin, fetched.licence, sep="\\n")
"""


def fetch(url: str, cache: Path, *arguments: str, code: str = FETCH, **more: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of a process of its own: the client reads the environment once."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "http"))}
    environment |= {"HF_ENDPOINT": url, "HF_HOME": str(cache), "PYTHONPATH": str(ROOT), **more}
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def refused(hub: Hub, cache: Path, *arguments: str, **more: str) -> str:
    """The one line that a download ends with."""
    with hub.serve() as url:
        code, out, err = fetch(url, cache, *arguments, **more)
    assert code == 3 and out == "", err
    assert "Traceback" not in err
    return err.strip().splitlines()[-1].replace(url, "HUB")


def test_a_model_is_fetched_at_one_commit_and_only_what_is_needed(tmp_path: Path) -> None:
    hub = Hub({NAME: FILES})
    with hub.serve() as url:
        code, out, err = fetch(url, tmp_path, NAME, "v1")
        assert code == 0, err
        folder, origin, licence = out.split("\n")[:3]
        assert origin == f"{NAME}@{COMMIT}" and licence == "qwen-research"
        names = {path.name for path in Path(folder).iterdir()}
        assert names == {"config.json", "tokenizer.json", "model.safetensors", "README.md"}
        assert (Path(folder) / "model.safetensors").read_bytes() == FILES["model.safetensors"]
        assert all(f"/{COMMIT}/" in line for line in hub.log if "/resolve/" in line)
        hub.log.clear()
        assert fetch(url, tmp_path, NAME, "v1")[0] == 0
    assert not [line for line in hub.log if line.startswith("GET") and "/resolve/" in line]


def test_a_cut_connection_goes_on_where_it_stopped(tmp_path: Path) -> None:
    files = FILES | {"model.safetensors": bytes(25 << 20)}  # the client writes 10 MB at a time
    hub = Hub({NAME: files}, cut={"model.safetensors": 1})
    with hub.serve() as url:
        code, out, err = fetch(url, tmp_path, NAME)
    assert code == 0, err
    folder = Path(out.splitlines()[0])
    assert (folder / "model.safetensors").read_bytes() == files["model.safetensors"]
    assert any("model.safetensors bytes=" in line for line in hub.log)


@pytest.mark.slow  # the client tries again with pauses
def test_a_server_that_keeps_failing_ends_in_one_line_and_is_continued(tmp_path: Path) -> None:
    files = FILES | {"model.safetensors": bytes(25 << 20)}
    hub = Hub({NAME: files}, cut={"model.safetensors": 99})
    line = refused(hub, tmp_path, NAME)
    assert line.startswith(f"{NAME}: ") and "run the same command again" in line
    hub.cut.clear()
    with hub.serve() as url:
        code, _, err = fetch(url, tmp_path, NAME)
    assert code == 0, err
    assert any("model.safetensors bytes=" in line for line in hub.log)


def test_a_missing_repository_and_a_missing_revision(tmp_path: Path) -> None:
    hub = Hub({NAME: FILES})
    line = refused(hub, tmp_path, "acme/nothing")
    assert line == "acme/nothing: no such model at HUB, or a private one; check the name, or set HF_TOKEN"
    assert "has no revision v9" in refused(hub, tmp_path, NAME, "v9")


def test_a_gated_repository_needs_a_token_which_is_never_shown(tmp_path: Path) -> None:
    hub = Hub({NAME: FILES}, gated={NAME})
    assert refused(hub, tmp_path, NAME).startswith(f"{NAME}: gated; accept its terms at HUB/{NAME}")
    assert "hf_wrong" not in refused(hub, tmp_path, NAME, HF_TOKEN="hf_wrong")
    with hub.serve() as url:
        code, out, err = fetch(url, tmp_path, NAME, HF_TOKEN=hub.token)
    assert code == 0 and hub.token not in out + err


def test_no_network_and_offline(tmp_path: Path) -> None:
    code, _, err = fetch("http://127.0.0.1:9", tmp_path, NAME)
    assert code == 3 and "http://127.0.0.1:9 cannot be reached" in err and "Traceback" not in err
    code, _, err = fetch("http://127.0.0.1:9", tmp_path, NAME, HF_HUB_OFFLINE="1")
    assert code == 3 and err.strip() == f"{NAME}: HF_HUB_OFFLINE is set; unset it, or give the model's folder"


def test_nothing_large_is_fetched_of_what_cannot_be_imported(tmp_path: Path) -> None:
    code = {"model_type": "moss_vl", "architectures": ["MossVL"], "auto_map": {"AutoModel": "moss.MossVL"}}
    masked = {"model_type": "qwen3_vl", "architectures": ["Qwen3VLForProactiveMDM"]}
    packed = CONFIG | {"quantization_config": {"quant_method": "bitsandbytes"}}
    without = {name: body for name, body in FILES.items() if name != "model.safetensors"}
    hub = Hub(
        {
            "acme/code": FILES | {"config.json": json.dumps(code).encode()},
            "acme/masked": FILES | {"config.json": json.dumps(masked).encode()},
            "acme/packed": FILES | {"config.json": json.dumps(packed).encode()},
            "acme/pickle": without,
            "acme/empty": {"README.md": CARD},
        }
    )
    assert "code in the repository; such code is never run" in refused(hub, tmp_path, "acme/code")
    assert "Qwen3VLForProactiveMDM" in refused(hub, tmp_path, "acme/masked")
    assert "quantized (bitsandbytes) in a way that" in refused(hub, tmp_path, "acme/packed")
    assert "weights are pickles (pytorch_model.bin)" in refused(hub, tmp_path, "acme/pickle")
    assert "holds no config.json" in refused(hub, tmp_path, "acme/empty")
    assert not [line for line in hub.log if "model" in line.rpartition("/")[2]]


def test_a_disk_that_fills_up_ends_in_one_line_and_leaves_no_half_file(tmp_path: Path) -> None:
    limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (200_000,) * 2)\n"
    full = limited + "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n" + FETCH
    hub = Hub({NAME: FILES})
    with hub.serve() as url:
        code, _, err = fetch(url, tmp_path, NAME, code=full)
        assert code == 3 and "run the same command again" in err and "Traceback" not in err, err
        assert not list(tmp_path.rglob("snapshots/*/model.safetensors"))
        code, out, err = fetch(url, tmp_path, NAME)
    assert code == 0, err
    weights = Path(out.splitlines()[0]) / "model.safetensors"
    assert weights.read_bytes() == FILES["model.safetensors"]


def test_too_little_room_is_said_before_anything_large_is_fetched(tmp_path: Path) -> None:
    usage = "collections.namedtuple('Usage', 'total used free')(10**6, 0, 10**6)"
    small = f"import collections, shutil; shutil.disk_usage = lambda path: {usage}\n" + FETCH
    hub = Hub({NAME: FILES})
    with hub.serve() as url:
        code, _, err = fetch(url, tmp_path, NAME, code=small)
    assert code == 3 and "1.0 MB to download, 1.0 MB free" in err
    assert not [line for line in hub.log if "model.safetensors" in line]
