"""What doctor finds. Only the video side is a stand-in: few machines have cameras and hardware decoders."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edge_runtime.app import doctor, optional_parts
from edge_runtime.app.config_file import Config
from edge_runtime.app.doctor import Decoder, broken, examine
from edge_runtime.app.optional_parts import check_evidence, check_page
from edge_runtime.app.web.config import WebConfig
from edge_runtime.errors import Finding, SourceError
from edge_runtime.events.evidence_config import EvidenceConfig

SOFTWARE = [
    Decoder("avdec_h264", ("h264",), False, "works"),
    Decoder("avdec_h265", ("h265",), False, "works"),
    Decoder("jpegdec", ("jpeg",), False, "works"),
]


class Video:
    def __init__(self, decoders: list[Decoder] = SOFTWARE, cameras: list[str] | None = None) -> None:
        self._decoders = decoders
        self._cameras = cameras or []

    def versions(self) -> dict[str, str]:
        return {"GStreamer": "1.22.0"}

    def decoders(self) -> list[Decoder]:
        return self._decoders

    def encoder(self) -> str:
        return ""

    def cameras(self) -> list[str]:
        return self._cameras


def by_check(findings) -> dict[str, Finding]:
    return {finding.subject: finding for finding in findings}


def test_a_healthy_machine(tiny_bundle):
    findings = list(examine(str(tiny_bundle), Video(cameras=["Webcam (/dev/video7)"]), threads=1))
    assert not broken(findings), findings
    found = by_check(findings)
    assert "hashes verified" in found["model"].detail
    assert "ms" in found["speed"].detail
    assert "CPU" in found["onnxruntime"].detail
    assert found["camera0"].detail == "Webcam (/dev/video7)"
    assert all(finding.remedy for finding in findings if finding.status != "ok")


@pytest.mark.parametrize(
    ("version", "status", "words"),
    [
        ("1.20.3", "ok", ""),
        ("1.28.1", "ok", ""),
        ("1.27.90", "ok", ""),
        ("1.18.4", "warn", "older than what is supported"),
        ("1.29.1", "warn", "newer than what was tested"),
        ("2.0.0", "warn", "newer than what was tested"),
    ],
)
def test_gstreamer_outside_the_tested_range(
    version: str, status: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = Video()
    monkeypatch.setattr(video, "versions", lambda: {"GStreamer": version, "PyGObject": "3.42"})
    found = by_check(doctor.check_gstreamer(video))
    assert (found["GStreamer"].status, found["PyGObject"].status) == (status, "ok")
    assert words in found["GStreamer"].detail
    assert ("1.20 to 1.28" in found["GStreamer"].remedy) == (status == "warn")


@pytest.mark.parametrize(
    ("version", "status"), [((3, 9, 2), "fail"), ((3, 10, 0), "ok"), ((3, 14, 3), "ok"), ((3, 15, 0), "warn")]
)
def test_python_outside_the_tested_range(
    version: tuple[int, ...], status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor.sys, "version_info", version)
    (found,) = doctor.check_python()
    assert found.status == status
    assert ("3.10 to 3.14" in found.remedy) == (status != "ok")


def test_a_damaged_bundle_is_found(tiny_bundle, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(tiny_bundle, copy)
    data = bytearray((copy / "decoder.onnx").read_bytes())
    data[1000] ^= 1
    (copy / "decoder.onnx").write_bytes(data)
    findings = by_check(examine(str(copy), Video()))
    assert findings["model"].status == "fail"
    assert "decoder.onnx: sha256 differs" in findings["model"].detail
    assert "speed" not in findings


def test_no_bundle_is_found(tmp_path):
    finding = by_check(examine(str(tmp_path / "none"), Video()))["model"]
    assert finding.status == "fail" and "none" in finding.detail and finding.remedy


def test_no_gstreamer_names_the_packages(tiny_bundle):
    class NoVideo(Video):
        def versions(self) -> dict[str, str]:
            raise SourceError(
                "GStreamer cannot be loaded (no typelib); install it with `sudo apt-get install -y x`"
            )

        decoders = encoder = cameras = versions

    findings = by_check(examine(str(tiny_bundle), NoVideo()))
    assert findings["GStreamer"].status == "fail"
    assert findings["GStreamer"].detail == "GStreamer cannot be loaded (no typelib)"
    assert "apt-get install" in findings["GStreamer"].remedy
    assert findings["model"].status == "ok"  # the rest is examined all the same


def test_what_raises_becomes_a_finding(tiny_bundle):
    class BadVideo(Video):
        def decoders(self) -> list[Decoder]:
            raise RuntimeError("boom\nsecond line")

    finding = by_check(examine(str(tiny_bundle), BadVideo()))["decoders"]
    assert (finding.status, finding.detail) == ("fail", "RuntimeError: boom")


@pytest.mark.parametrize(
    ("decoders", "check", "status"),
    [
        (SOFTWARE[1:], "decoder h264", "fail"),
        (SOFTWARE[:2], "decoder jpeg", "warn"),
        (
            [*SOFTWARE, Decoder("vah264dec", ("h264",), True, "no picture in 3 s")],
            "decoder vah264dec",
            "warn",
        ),
        ([Decoder("nvv4l2decoder", ("h264",), True, "works"), *SOFTWARE], "decoder h264", "ok"),
    ],
)
def test_decoders(decoders, check, status):
    finding = by_check(doctor.check_decoders(Video(decoders)))[check]
    assert finding.status == status
    assert bool(finding.remedy) == (status != "ok")


def test_a_camera_without_permission(monkeypatch):
    monkeypatch.setattr("os.access", lambda *args: False)
    finding = by_check(doctor.check_cameras(Video(), [Path("/dev/video0")]))["cameras"]
    assert finding.status == "fail" and "/dev/video0" in finding.detail
    assert finding.remedy.startswith("sudo usermod -aG video")


def test_a_full_disk_and_a_locked_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_LOW_DISK_BYTES", 1 << 62)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "deep" / "cache"))
    found = by_check(doctor.check_disk())
    assert found["disk"].status == "warn"
    assert found["cache"].status == "ok"  # it can be made
    monkeypatch.setattr("os.access", lambda *args: False)
    assert by_check(doctor.check_disk())["cache"].status == "warn"


def test_what_only_some_runs_need(tmp_path, monkeypatch):
    """The page and evidence: nothing to fix until the configuration uses them."""
    used = Config(
        web=WebConfig(("127.0.0.1", 8080)), evidence=EvidenceConfig(tmp_path / "kept"), path=tmp_path / "x"
    )
    assert not any(one.remedy for one in [*check_page(None), *check_evidence("", None)])
    found = by_check([*check_page(used), *check_evidence("", used)])
    assert (found["evidence"].status, found["encoder h264"].status) == ("ok", "warn")
    assert "gstreamer1.0-plugins-ugly" in found["encoder h264"].remedy
    assert by_check(check_evidence("x264enc", used))["encoder h264"].detail == "x264enc"
    (tmp_path / "kept").write_text("")
    assert by_check(check_evidence("", used))["evidence"].status == "fail"
    monkeypatch.setattr(optional_parts, "PAGE", ("uvicorn", "no_such_package"))
    assert by_check(check_page(used))["page"].detail == "no_such_package is not installed"
    assert "streampro-edge[web]" in by_check(check_page(used))["page"].remedy
    assert by_check(check_page(None))["page"].status == "ok"
