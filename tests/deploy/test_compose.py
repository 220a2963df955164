"""The compose file and the Grafana dashboard, as far as they can be judged without Docker."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edge_runtime.app.config_file import load_config
from edge_runtime.observability.metrics import MetricsPages, MetricsServer, StreamMetrics, render
from edge_runtime.observability.telemetry import Telemetry
from edge_runtime.sinks.mqtt import MqttConfig
from tests.edge_runtime.mosquitto import MOSQUITTO

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "compose"
DASHBOARD = json.loads((FOLDER / "grafana/dashboards/edge-run.json").read_text())
COMPOSE = yaml.safe_load((FOLDER / "compose.yaml").read_text())
PROMETHEUS = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
VARIABLES = {"$__rate_interval": "1m", "$stream": ".*"}


@dataclass
class Camera:
    dropped: int = 3
    reconnects: int = 2


@dataclass
class Hook:
    name: str = "webhook alerts (h)"

    def counts(self) -> dict[str, int]:
        return {"delivered": 12, "waiting": 7, "lost": 1}


def watched() -> list[StreamMetrics]:
    telemetry = Telemetry()
    telemetry.suppress("repeat")
    telemetry.add_stage("vision", 5.0)
    telemetry.decision.add(12.0)
    telemetry.timesteps, telemetry.last_frame = 1, time.monotonic()
    return [StreamMetrics("door", 1.0, telemetry, Camera())]


def expressions() -> list[str]:
    return [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]


def concrete(expression: str) -> str:
    """As Grafana sends it."""
    for variable, value in VARIABLES.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    return expression


def exported() -> dict[str, set[str]]:
    """The labels of each metric that the server really exports."""
    samples: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", render(watched(), [Hook()], time.monotonic()), re.M):
        samples.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    return samples


def test_the_dashboard_names_metrics_and_labels_that_exist():
    known = exported()
    used = set()
    for expression in expressions():
        for name, matchers in re.findall(r"\b(edge_run_\w+)(?:\{([^}]*)\})?", expression):
            used.add(name)
            assert name in known, expression
            assert set(re.findall(r"(\w+)(?:=~|=)", matchers)) <= known[name], expression
        grouped = re.findall(r"\bby \(([^)]*)\)", expression)
        names = set(re.findall(r"edge_run_\w+", expression))
        for label in {label.strip() for group in grouped for label in group.split(",")}:
            assert all(label in known[name] for name in names), (label, expression)
    unused = {name.removesuffix("_bucket") for name in known} - {
        name.removesuffix("_bucket") for name in used
    }
    assert unused <= {"edge_run_latency_seconds_sum", "edge_run_latency_seconds_count"}, "show these, too"


def test_the_dashboard_is_one_that_grafana_takes():
    assert {"uid", "title", "schemaVersion", "panels", "templating", "time"} <= set(DASHBOARD)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids) > 5
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        assert {"type", "title", "description", "gridPos", "targets", "fieldConfig", "options"} <= set(panel)
        place = panel["gridPos"]
        own = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not own & cells and all(x < 24 for x, _ in own), panel["title"]
        cells |= own
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert labels and all(label in re.findall(r"\w+", target["expr"]) for label in labels)
    names = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert names == {"datasource", "stream"}


def test_what_the_files_name_is_there():
    services = COMPOSE["services"]
    assert set(services) == {"edge-run", "mosquitto", "prometheus", "grafana"}
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert (FOLDER / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]
        assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
        assert set(service.get("depends_on", [])) <= set(services)
        assert "image" not in service or re.search(
            r":[v\d.]+$", service["image"]
        )  # not whatever is the latest
    build = services["edge-run"]["build"]
    assert (FOLDER / build["context"] / build["dockerfile"]).is_file()
    assert all("secrets/" in secret["file"] for secret in COMPOSE["secrets"].values())
    assert "secrets/" in (FOLDER / ".gitignore").read_text()
    paths = [options["options"]["path"] for options in provisioned("dashboards/edge-run.yaml")["providers"]]
    assert paths == ["/etc/grafana/dashboards"]
    assert any(volume.endswith(f":{paths[0]}:ro") for volume in services["grafana"]["volumes"])


def test_the_parts_find_each_other():
    config = load_config(FOLDER / "edge-run.toml")
    services = COMPOSE["services"]
    (mqtt,) = config.sinks
    assert isinstance(mqtt, MqttConfig) and mqtt.host in services and mqtt.home_assistant
    mounted = {f"/run/secrets/{name}" for name in services["edge-run"]["secrets"]}
    assert {str(mqtt.password.file), str(config.cameras[0].password_file)} == mounted
    assert config.cameras[0].name in services["edge-run"]["command"]
    host, port = config.runtime.metrics or ("", 0)
    (scraped,) = PROMETHEUS["scrape_configs"]
    assert scraped["static_configs"][0]["targets"] == [f"edge-run:{port}"] and host == "0.0.0.0"
    (source,) = provisioned("datasources/prometheus.yaml")["datasources"]
    assert source["url"] == "http://prometheus:9090" and source["type"] == "prometheus"
    assert (
        re.search(r"password_file /run/secrets/(\w+)", (FOLDER / "mosquitto.conf").read_text())[1]
        in services["mosquitto"]["secrets"]
    )


def provisioned(path: str) -> dict[str, Any]:
    return yaml.safe_load((FOLDER / "grafana/provisioning" / path).read_text())


def test_mosquitto_takes_its_configuration(tmp_path):
    if MOSQUITTO is None or shutil.which("mosquitto_passwd") is None:
        pytest.skip("mosquitto is not installed")
    subprocess.run(["mosquitto_passwd", "-c", "-b", tmp_path / "passwords", "edge-run", "x"], check=True)
    (tmp_path / "passwords").chmod(0o644)
    port = free_port()
    text = (FOLDER / "mosquitto.conf").read_text()
    text = re.sub(r"/run/secrets/\w+", str(tmp_path / "passwords"), text)
    text = text.replace("/mosquitto/data/", f"{tmp_path}/").replace(
        "listener 1883", f"listener {port} 127.0.0.1"
    )
    (tmp_path / "mosquitto.conf").write_text(f"{text}user root\n")
    broker = subprocess.Popen([MOSQUITTO, "-c", tmp_path / "mosquitto.conf"], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 20
        while socket.socket().connect_ex(("127.0.0.1", port)):
            assert broker.poll() is None and time.monotonic() < until
            time.sleep(0.05)
    finally:
        broker.kill()
        broker.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.mark.slow
def test_prometheus_takes_every_expression_and_finds_data(tmp_path):
    if shutil.which("prometheus") is None:
        pytest.skip("prometheus is not installed")
    port = free_port()
    with closing(MetricsServer("127.0.0.1", 0, MetricsPages(watched(), [Hook()]))) as server:
        text = (FOLDER / "prometheus.yml").read_text().replace("edge-run:9464", server.address)
        (tmp_path / "prometheus.yml").write_text(text.replace("15s", "1s"))
        prometheus = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={tmp_path}/prometheus.yml",
                f"--storage.tsdb.path={tmp_path}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + 60
            while not ask(port, "count_over_time(edge_run_timesteps_total[1m]) >= 4"):  # a rate needs several
                assert prometheus.poll() is None and time.monotonic() < until
                time.sleep(0.5)
            for expression in expressions():
                assert ask(port, concrete(expression)), expression
        finally:
            prometheus.kill()
            prometheus.wait()


def ask(port: int, expression: str) -> list[Any]:
    url = f"http://127.0.0.1:{port}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as err:
        raise AssertionError(f"{expression}: {err.read().decode()}") from err
    except urllib.error.URLError:
        return []  # not up yet
