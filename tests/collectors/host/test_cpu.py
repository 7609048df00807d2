"""CPUs: their time in each mode never falls, and each one that the kernel knows is reported."""

from pathlib import Path

import pytest

from stator.collectors.host.cpu import Cpu
from tests.collectors.host.machine import FILES, lay_out, read, values

STAT = FILES["proc/stat"]


def test_each_cpu_has_its_seconds_in_each_mode(tmp_path: Path) -> None:
    found = values(Cpu().points(read(lay_out(tmp_path)), 0.0))
    modes = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
    assert [found[f"node_cpu_seconds_total 2 {mode}"] for mode in modes] == [5, 0.1, 1.2, 400, 0.6, 0.01, 0.08, 0.03]
    assert found["node_cpu_guest_seconds_total 0 user"] == 0.03
    assert found["node_cpu_guest_seconds_total 0 nice"] == 0.01
    assert "node_cpu_seconds_total 1 user" not in found


def test_modes_that_an_old_kernel_does_not_know_are_zero(tmp_path: Path) -> None:
    found = values(Cpu().points(read(lay_out(tmp_path, {"proc/stat": "cpu0 100 0 0 200\n"})), 0.0))
    assert found["node_cpu_seconds_total 0 idle"] == 2
    assert found["node_cpu_seconds_total 0 steal"] == found["node_cpu_guest_seconds_total 0 nice"] == 0


def test_modes_of_a_kernel_to_come_are_not_taken_for_others(tmp_path: Path) -> None:
    machine = lay_out(tmp_path, {"proc/stat": "cpu0 1 2 3 4 5 6 7 8 9 10 11 12\nfuture 1\n"})
    assert len([name for name in values(Cpu().points(read(machine), 0.0)) if "seconds" in name]) == 10


def test_time_does_not_fall_where_the_kernel_s_does_by_a_little(tmp_path: Path) -> None:
    cpu, machine = Cpu(), lay_out(tmp_path)
    cpu.points(read(machine), 0.0)
    lay_out(tmp_path, {"proc/stat": STAT.replace("cpu2 500 10 120 40000 60", "cpu2 501 10 120 39900 59")})
    found = values(cpu.points(read(machine), 0.0))
    assert found["node_cpu_seconds_total 2 user"] == 5.01
    assert found["node_cpu_seconds_total 2 idle"] == 400
    assert found["node_cpu_seconds_total 2 iowait"] == 0.6


def test_a_cpu_that_was_away_begins_anew(tmp_path: Path) -> None:
    cpu, machine = Cpu(), lay_out(tmp_path)
    cpu.points(read(machine), 0.0)
    lay_out(tmp_path, {"proc/stat": STAT.replace("cpu2 500 10 120 40000", "cpu2 1 0 2 300")})
    assert values(cpu.points(read(machine), 0.0))["node_cpu_seconds_total 2 user"] == 0.01


def test_a_cpu_comes_and_goes(tmp_path: Path) -> None:
    cpu, machine = Cpu(), lay_out(tmp_path)
    cpu.points(read(machine), 0.0)
    lay_out(tmp_path, {"proc/stat": "cpu0 1 1 1 1\ncpu1 1 1 1 1\n"})
    found = values(cpu.points(read(machine), 0.0))
    assert {name.split()[1] for name in found if "cpu_seconds" in name} == {"0", "1"}


def test_throttles_are_counted_of_each_core_and_package(tmp_path: Path) -> None:
    found = values(Cpu().points(read(lay_out(tmp_path)), 0.0))
    assert {name: value for name, value in found.items() if "throttles" in name} == {
        "node_cpu_core_throttles_total 0 0": 5,
        "node_cpu_core_throttles_total 0 1": 7,
        "node_cpu_package_throttles_total 0": 30,
    }


def test_a_count_that_vanishes_is_left_out(tmp_path: Path) -> None:
    cpu, machine = Cpu(), lay_out(tmp_path)
    cpu.points(read(machine), 0.0)
    (machine / "sys/devices/system/cpu/cpu2/thermal_throttle/core_throttle_count").unlink()
    found = values(cpu.points(read(machine), 0.0))
    assert [name for name in found if "core_throttles" in name] == ["node_cpu_core_throttles_total 0 0"]


def test_isolated_cpus_are_named(tmp_path: Path) -> None:
    isolated = {"sys/devices/system/cpu/isolated": "2,4-6\n"}
    found = values(Cpu().points(read(lay_out(tmp_path, isolated)), 0.0))
    assert [name for name in found if "isolated" in name] == [f"node_cpu_isolated {cpu}" for cpu in (2, 4, 5, 6)]


@pytest.mark.parametrize(("first", "online"), [("1\n", {"0": 1, "1": 0, "2": 1}), (None, {})])
def test_online_cpus_are_reported_where_each_can_go_offline(
    tmp_path: Path, first: str | None, online: dict[str, int]
) -> None:
    found = values(Cpu().points(read(lay_out(tmp_path, {"sys/devices/system/cpu/cpu0/online": first})), 0.0))
    assert {name.split()[1]: value for name, value in found.items() if "online" in name} == online


def test_a_file_without_cpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"no CPU in {tmp_path}/proc/stat"):
        Cpu().points(read(lay_out(tmp_path, {"proc/stat": "intr 1\n"})), 0.0)
