"""Temperature, clocks, power and throttling while a benchmark runs, from the sources that this machine has.

Those are files under /sys on Linux, NVML for NVIDIA's cards (package nvidia-ml-py, module ``pynvml``, used
when it is installed), and the program ``tegrastats`` for a Jetson's power. What none reports is not measured.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.latency.bench.report.statistics import NOT_MEASURED

SYSFS = Path("/sys")
_PERIOD_S = 1.0
_POWER = re.compile(r"\b(VDD_IN|POM_5V_IN|VIN_SYS_5V0) (\d+)(?:mW)?/")
"""A Jetson's whole power, by board; the first number is the present one in mW."""

Reading = dict[str, float]


@dataclass
class Sensors:
    """Reads once a second in a thread of its own from ``start`` to ``stop``."""

    sysfs: Path = SYSFS
    readings: list[Reading] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._sources: list[Callable[[], Reading]] = [lambda: read_sysfs(self.sysfs)]
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._tegrastats: subprocess.Popen[str] | None = None
        self.throttling_before: dict[str, int] = {}
        self.gpu: dict[str, Any] = {}
        self._nvml: Any = None

    def start(self) -> None:
        self._open_nvml()
        self._open_tegrastats()
        self.throttling_before = throttle_counts(self.sysfs)
        self._thread = threading.Thread(target=self._watch, name="sensors", daemon=True)
        self._thread.start()

    def stop(self) -> dict[str, Any]:
        """The report's ``sensors`` and whether the machine was throttled."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(5.0)
        if self._tegrastats is not None:
            self._tegrastats.terminate()
            self._tegrastats.wait(5.0)
        read = summarise_readings(self.readings)
        if self._nvml is not None:
            self._nvml.nvmlShutdown()
        return {**read, "throttled": self._throttled()}

    def _throttled(self) -> bool | str:
        after = throttle_counts(self.sysfs)
        known = bool(after)
        if any(count > self.throttling_before.get(name, 0) for name, count in after.items()):
            return True
        capped = [reading["cpu_capped"] for reading in self.readings if "cpu_capped" in reading]
        slowed = [reading["gpu_throttled"] for reading in self.readings if "gpu_throttled" in reading]
        if any(capped) or any(slowed):
            return True
        return False if known or capped or slowed else NOT_MEASURED

    def _watch(self) -> None:
        while True:
            reading: Reading = {}
            for source in self._sources:
                reading.update(source())
            self.readings.append(reading)
            if self._stop.wait(_PERIOD_S):
                return

    def _open_nvml(self) -> None:
        try:
            import pynvml  # type: ignore[import-not-found,unused-ignore]

            pynvml.nvmlInit()
            card = pynvml.nvmlDeviceGetHandleByIndex(0)
        except Exception:  # not installed, no driver, no card: not measured
            return
        self._nvml = pynvml

        def text(value: bytes | str) -> str:
            return value.decode() if isinstance(value, bytes) else value

        self.gpu = {
            "gpu": text(pynvml.nvmlDeviceGetName(card)),
            "driver": text(pynvml.nvmlSystemGetDriverVersion()),
        }
        self._sources.append(lambda: read_nvml(pynvml, card))

    def _open_tegrastats(self) -> None:
        if (program := shutil.which("tegrastats")) is None:
            return
        self._tegrastats = subprocess.Popen(
            [program, "--interval", "1000"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        latest: Reading = {}

        def follow(process: subprocess.Popen[str]) -> None:
            for line in process.stdout or ():
                latest.update(read_tegrastats(line))

        threading.Thread(target=follow, args=(self._tegrastats,), daemon=True).start()
        self._sources.append(lambda: dict(latest))


def read_sysfs(root: Path) -> Reading:
    """``temperature_c`` (the hottest zone), ``cpu_mhz`` (mean over cores) and ``cpu_capped`` (1: a cooling
    device holds the processor's clock down), as far as the files are there.
    """
    reading: Reading = {}
    zones = [_number(zone / "temp") for zone in root.glob("class/thermal/thermal_zone*")]
    if hot := [zone / 1e3 for zone in zones if zone is not None and zone > 0]:
        reading["temperature_c"] = max(hot)
    clocks = [_number(path) for path in root.glob("devices/system/cpu/cpu*/cpufreq/scaling_cur_freq")]
    if known := [clock / 1e3 for clock in clocks if clock]:
        reading["cpu_mhz"] = sum(known) / len(known)
    states = [
        state
        for device in root.glob("class/thermal/cooling_device*")
        if re.match("Processor|.*cpufreq", _text(device / "type"))
        and (state := _number(device / "cur_state")) is not None
    ]
    if states:
        reading["cpu_capped"] = float(any(states))
    return reading


def throttle_counts(root: Path) -> dict[str, int]:
    """How often each core was slowed down since the machine started; empty where nobody counts."""
    paths = root.glob("devices/system/cpu/cpu*/thermal_throttle/*_throttle_count")
    counts = {str(path.relative_to(root)): _number(path) for path in paths}
    return {name: int(count) for name, count in counts.items() if count is not None}


def read_nvml(nvml: Any, card: Any) -> Reading:
    """Read the card; a figure it does not support is left out."""
    reading: Reading = {}

    def take(name: str, read: Callable[[], float]) -> None:
        with contextlib.suppress(nvml.NVMLError):
            reading[name] = read()

    slow = (
        nvml.nvmlClocksThrottleReasonHwSlowdown
        | nvml.nvmlClocksThrottleReasonSwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwThermalSlowdown
        | nvml.nvmlClocksThrottleReasonHwPowerBrakeSlowdown
    )
    take("gpu_temperature_c", lambda: nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU))
    take("gpu_mhz", lambda: nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM))
    take("gpu_power_w", lambda: nvml.nvmlDeviceGetPowerUsage(card) / 1e3)
    take("gpu_memory_mb", lambda: nvml.nvmlDeviceGetMemoryInfo(card).used / 1e6)
    take("gpu_throttled", lambda: float(bool(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card) & slow)))
    return reading


def read_tegrastats(line: str) -> Reading:
    """``board_power_w`` and ``gpu_load_percent`` of one line of tegrastats."""
    reading: Reading = {}
    if power := _POWER.search(line):
        reading["board_power_w"] = int(power[2]) / 1e3
    if load := re.search(r"GR3D_FREQ (\d+)%", line):
        reading["gpu_load_percent"] = float(load[1])
    return reading


FIGURES = (
    *("temperature_c", "cpu_mhz", "gpu_temperature_c", "gpu_mhz", "gpu_power_w", "gpu_memory_mb"),
    *("board_power_w", "gpu_load_percent"),
)


def summarise_readings(readings: list[Reading]) -> dict[str, Any]:
    """First, lowest, mean, highest and last of each figure."""
    read: dict[str, Any] = {}
    for name in FIGURES:
        values = [reading[name] for reading in readings if name in reading]
        if not values:
            read[name] = NOT_MEASURED
            continue
        row = {
            "first": values[0],
            "min": min(values),
            "mean": sum(values) / len(values),
            "max": max(values),
            "last": values[-1],
        }
        read[name] = {key: round(value, 2) for key, value in row.items()}
    return read


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> float | None:
    try:
        return float(_text(path))
    except ValueError:
        return None
