from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("onnxruntime")

from edge_runtime.bundle.manifest import load_bundle
from export.__main__ import main


def test_a_folder_that_is_no_checkpoint_gives_one_line(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path), "--out", str(tmp_path / "bundle")])
    assert result.exit_code == 3
    assert result.output.splitlines()[-1].startswith("export: ")
    assert "config.json is missing" in result.output
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_precision_is_a_usage_error(tmp_path):
    result = CliRunner().invoke(main, [str(tmp_path), "--out", "x", "--precision", "int2"])
    assert result.exit_code == 2


@pytest.fixture
def checkpoint(tiny_model, tmp_path):
    from train.models.checkpoint import save_checkpoint

    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, tiny_model.model, tiny_model.tokenizer, tiny_model.stream_format, [], {}, {})
    return folder


def change(folder, **values):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize(
    ("values", "options", "message"),
    [
        ({"family": "llava"}, [], "family is 'llava', expected one of compact, qwen2_5_vl, qwen3_vl"),
        ({"protocol": {"fps": 0}}, [], "protocol: fps and frame_tokens must be positive, got 0, 9"),
        ({"protocol": {"silence": "</Quiet>"}}, [], "tokenizer: </Quiet> must be one token"),
        ({"format_version": 9}, [], "format_version is 9, expected at most 1"),
        ({}, ["--precision", "fp8"], "ort-cpu cannot do precision fp8; it can do fp32, int8, int4"),
        (
            {},
            ["--target", "tensorrt-rtx", "--precision", "fp32"],
            "tensorrt-rtx cannot do precision fp32; it can do fp16, int8, int4, fp8",
        ),
        (
            {},
            ["--precision", "fp32", "--block-size", "64"],
            "ort-cpu at precision fp32 has no block size to choose; ort-cpu and ort-cuda have",
        ),
    ],
)
def test_what_cannot_be_exported_is_one_line(checkpoint, tmp_path, values, options, message):
    pytest.importorskip("geffnet")
    if "protocol" in values:
        stream_format = json.loads((checkpoint / "config.json").read_text())["protocol"]
        values = {"protocol": stream_format | values["protocol"]}
    change(checkpoint, **values)
    result = CliRunner().invoke(main, [str(checkpoint), "--out", str(tmp_path / "bundle"), *options])
    assert result.exit_code != 0
    assert message in result.output.splitlines()[-1]
    assert result.output.splitlines()[-1].startswith("export: ") and "Traceback" not in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


def test_a_disk_that_fills_up_is_one_line_and_leaves_nothing(checkpoint, tmp_path, monkeypatch):
    pytest.importorskip("geffnet")
    from export import bundle_writer

    def full(*_):
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(bundle_writer, "_write_graphs", full)
    result = CliRunner().invoke(main, [str(checkpoint), "--out", str(tmp_path / "bundle")])
    assert (result.exit_code, result.output.splitlines()[-1]) == (
        1,
        f"export: {tmp_path / 'bundle'}: No space left on device",
    )
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.slow
def test_an_export_killed_in_the_middle_leaves_the_old_bundle(checkpoint, tiny_bundle, tmp_path):
    """A real process, killed while it writes; the next export clears away what it left."""
    pytest.importorskip("geffnet")
    from edge_runtime.atomic_write import sweep

    out = tmp_path / "bundle"
    out.mkdir()
    for path in tiny_bundle.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    command = [sys.executable, "-m", "export", str(checkpoint), "--out", str(out), "--context-rows", "384"]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.DEVNULL)
    work = tmp_path / f".bundle.{process.pid}"
    deadline = time.monotonic() + 240
    while not (work / "vision.onnx").exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert work.is_dir() and load_bundle(out).name == load_bundle(tiny_bundle).name
    sweep(out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "checkpoint"]


@pytest.mark.slow
def test_checkpoint_to_bundle(tiny_model, tmp_path):
    pytest.importorskip("geffnet")
    onnx = pytest.importorskip("onnx")
    from train.models.checkpoint import save_checkpoint

    checkpoint, out = tmp_path / "checkpoint", tmp_path / "bundle"
    parts = (tiny_model.model, tiny_model.tokenizer, tiny_model.stream_format)
    save_checkpoint(checkpoint, *parts, tasks=["EU"], recipe={"steps": 1}, metrics={"f1": 0.1})
    arguments = [str(checkpoint), "--out", str(out), "--context-rows", "384", "--parity-timesteps", "40"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    assert "parity with torch fp32 over 40 timesteps" in result.output
    assert load_bundle(out).name == "bundle"
    manifest = json.loads((out / "bundle.json").read_text())
    assert manifest["training"] == {"tasks": ["EU"], "recipe": {"steps": 1}, "metrics": {"f1": 0.1}}

    small = tmp_path / "small"
    options = ["--kv", "int8", "--block-size", "64", "--parity-timesteps", "0"]
    result = CliRunner().invoke(
        main, [*arguments[:1], "--out", str(small), "--context-rows", "384", *options]
    )
    assert result.exit_code == 0, result.output
    assert json.loads((small / "bundle.json").read_text())["kv"] == "int8"
    sizes = {
        attribute.i
        for node in onnx.load(small / "decoder.onnx", load_external_data=False).graph.node
        for attribute in node.attribute
        if node.op_type == "MatMulNBits" and attribute.name == "block_size"
    }
    assert sizes == {64}
