"""Threads poll during a run and not after it."""

from __future__ import annotations

import time

import numpy as np
import onnxruntime
import pytest

import edge_runtime
from edge_runtime.app.config_file import read_config
from edge_runtime.backends.ort import OrtBackend, session_options
from edge_runtime.backends.spinning import supported
from edge_runtime.bundle.manifest import load_bundle
from edge_runtime.errors import ConfigError

ENTRIES = (
    "session.intra_op.allow_spinning",
    "session.intra_op.spin_duration_us",
    "session.force_spinning_stop",
)
EXPECTED = {"run": ("1", "20", "1"), "never": ("0", "", ""), "always": ("1", "", "")}
limited = supported("run", onnxruntime.__version__) == "run"


def entries(options):
    """An entry that was not set is empty here: asking onnxruntime for it raises."""

    def value(name):
        try:
            return options.get_session_config_entry(name)
        except RuntimeError:
            return ""

    return tuple(map(value, ENTRIES))


@pytest.mark.parametrize("spinning", ["run", "never", "always"])
def test_options_of_a_session(spinning):
    options = session_options(3, spinning)
    assert entries(options) == EXPECTED[supported(spinning, onnxruntime.__version__)]
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (3, 1)


def test_onnxruntime_that_cannot_limit_polling_does_not_poll():
    assert [
        supported("run", version) for version in ("1.22.1", "1.25.0", "1.26.0", "1.32.0.dev1", "2.0")
    ] == [
        "never",
        "never",
        "run",
        "run",
        "run",
    ]
    assert supported("always", "1.22.1") == "always"


def test_both_graphs_of_a_loaded_model_get_them(tiny_bundle, monkeypatch):
    """Real sessions; what reaches onnxruntime is written down on the way."""
    seen = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, path, options, **rest):
            seen.append(entries(options))
            super().__init__(path, options, **rest)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    model = edge_runtime.load(tiny_bundle, threads=2)
    edge_runtime.load(tiny_bundle, threads=2, spinning="never")
    default = "run" if limited else "never"
    assert seen == [EXPECTED[default]] * 2 + [EXPECTED["never"]] * 2
    assert f"2 threads (spinning: {default})" in model.backend


def test_unknown_name_is_refused(tiny_bundle):
    with pytest.raises(ConfigError, match="spinning 'sometimes': unknown; choose one of run, never, always"):
        edge_runtime.load(tiny_bundle, spinning="sometimes")


def test_configuration_names_it(tmp_path):
    path = tmp_path / "edge-run.toml"
    path.write_text('[runtime]\nspinning = "never"\n')
    config, problems = read_config(path)
    assert (config.runtime.spinning, problems) == ("never", ())
    path.write_text("[runtime]\nspinning = 'sometimes'\n")
    config, problems = read_config(path)
    assert config.runtime.spinning == "run"
    assert [(problem.line, problem.subject) for problem in problems] == [(2, "runtime.spinning")]


def test_no_processor_time_between_runs():
    """Threads that poll on keep a core busy for tens of milliseconds after each run."""
    vision = {name: _nano_vision(name) for name in ("run", "always")}
    assert min(_idle_cpu_ms(vision["run"]) for _ in range(4)) < 1
    # What the test looks for is there; once is enough, since other processes may have had the core.
    assert max(_idle_cpu_ms(vision["always"]) for _ in range(4)) > 5


def _nano_vision(spinning):
    bundle = load_bundle("nano")
    height, width = bundle.model.image_size
    graph = OrtBackend("cpu", 2, spinning=spinning).load_vision(bundle)
    return lambda: graph.run(np.zeros((1, 3, height, width), dtype=np.float32), None)


def _idle_cpu_ms(run, idle_s=0.25):
    """Processor time of this process after a run."""
    run()
    begin = time.process_time()
    time.sleep(idle_s)
    return (time.process_time() - begin) * 1e3
