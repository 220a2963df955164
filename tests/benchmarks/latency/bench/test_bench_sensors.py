"""What /sys tells is read as it is, from a tree made here; what nobody tells is not measured."""

from types import SimpleNamespace

from benchmarks.latency.bench.sensors import (
    Sensors,
    read_nvml,
    read_sysfs,
    read_tegrastats,
    summarise_readings,
    throttle_counts,
)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


def board(root, *, capped=0, count=3):
    write(root / "class/thermal/thermal_zone0/temp", 51000)
    write(root / "class/thermal/thermal_zone1/temp", 63500)
    write(root / "class/thermal/cooling_device0/type", "Processor")
    write(root / "class/thermal/cooling_device0/cur_state", capped)
    write(root / "class/thermal/cooling_device1/type", "pwm-fan")
    write(root / "class/thermal/cooling_device1/cur_state", 4)  # a running fan throttles nothing
    for core, khz in enumerate((1_200_000, 1_800_000)):
        write(root / f"devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq", khz)
        write(root / f"devices/system/cpu/cpu{core}/thermal_throttle/core_throttle_count", count)


def test_the_hottest_zone_the_mean_clock_and_the_cap(tmp_path):
    board(tmp_path)
    assert read_sysfs(tmp_path) == {"temperature_c": 63.5, "cpu_mhz": 1500.0, "cpu_capped": 0.0}
    assert sorted(throttle_counts(tmp_path).values()) == [3, 3]


def test_a_machine_that_stays_cool_is_not_throttled(tmp_path):
    board(tmp_path)
    sensors = Sensors(tmp_path)
    sensors.start()
    told = sensors.stop()
    assert told["throttled"] is False
    assert told["temperature_c"]["max"] == 63.5
    assert told["board_power_w"] == "not measured"


def test_a_count_that_grows_is_throttling(tmp_path):
    board(tmp_path)
    sensors = Sensors(tmp_path)
    sensors.start()
    board(tmp_path, count=4)
    assert sensors.stop()["throttled"] is True


def test_a_capped_clock_is_throttling(tmp_path):
    board(tmp_path, capped=2)
    sensors = Sensors(tmp_path)
    sensors.start()
    assert sensors.stop()["throttled"] is True


def test_a_machine_that_tells_nothing(tmp_path):
    sensors = Sensors(tmp_path / "nothing")
    sensors.start()
    assert set(sensors.stop().values()) == {"not measured"}


def test_figures_of_several_readings():
    told = summarise_readings([{"cpu_mhz": 1000.0}, {"cpu_mhz": 2000.0}, {}])
    assert told["cpu_mhz"] == {"first": 1000.0, "min": 1000.0, "mean": 1500.0, "max": 2000.0, "last": 2000.0}


def test_a_line_of_tegrastats():
    line = "RAM 3000/7620MB GR3D_FREQ 37%@624 CPU@48C VDD_IN 5123mW/4900mW VDD_CPU_GPU_CV 900mW/800mW"
    assert read_tegrastats(line) == {"board_power_w": 5.123, "gpu_load_percent": 37.0}
    assert read_tegrastats("nothing of that kind") == {}


def test_a_card_that_does_not_tell_its_power():
    class NVMLError(Exception):
        pass

    def unsupported(card):
        raise NVMLError

    nvml = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        NVML_CLOCK_SM=1,
        nvmlClocksThrottleReasonHwSlowdown=8,
        nvmlClocksThrottleReasonSwThermalSlowdown=32,
        nvmlClocksThrottleReasonHwThermalSlowdown=64,
        nvmlClocksThrottleReasonHwPowerBrakeSlowdown=128,
        nvmlDeviceGetTemperature=lambda card, kind: 44,
        nvmlDeviceGetClockInfo=lambda card, kind: 1980,
        nvmlDeviceGetPowerUsage=unsupported,
        nvmlDeviceGetMemoryInfo=lambda card: SimpleNamespace(used=2_000_000),
        nvmlDeviceGetCurrentClocksThrottleReasons=lambda card: 32 | 1,
    )
    assert read_nvml(nvml, None) == {
        "gpu_temperature_c": 44,
        "gpu_mhz": 1980,
        "gpu_memory_mb": 2.0,
        "gpu_throttled": 1.0,
    }
