"""The small groups: loadavg, uname, time, stat, filefd and pressure."""

import os
import time
from pathlib import Path

import pytest

from stator.collectors.host.files import Files
from stator.collectors.host.system import clocks, filefd, loadavg, pressure, stat, uname
from tests.collectors.host.machine import lay_out, read, values


def test_the_load_over_three_spans(tmp_path: Path) -> None:
    found = values(loadavg(read(lay_out(tmp_path)), 0.0))
    assert found == {"node_load1": 0.21, "node_load5": 1.37, "node_load15": 15.39}


def test_what_the_kernel_counts_over_all_cpus(tmp_path: Path) -> None:
    assert values(stat(read(lay_out(tmp_path)), 0.0)) == {
        "node_intr_total": 8885917,
        "node_context_switches_total": 38014093,
        "node_boot_time_seconds": 1418183276,
        "node_forks_total": 26442,
        "node_procs_running": 3,
        "node_procs_blocked": 1,
    }


def test_counts_that_are_missing_are_left_out(tmp_path: Path) -> None:
    found = values(stat(read(lay_out(tmp_path, {"proc/stat": "cpu0 1 1\nctxt 5\nctxt_new 6\n"})), 0.0))
    assert found == {"node_context_switches_total": 5}


def test_files_that_are_open_and_may_be(tmp_path: Path) -> None:
    found = values(filefd(read(lay_out(tmp_path)), 0.0))
    assert found == {"node_filefd_allocated": 1024, "node_filefd_maximum": 2**63 - 1}


def test_pressure_is_in_seconds(tmp_path: Path) -> None:
    assert values(pressure(read(lay_out(tmp_path)), 0.0)) == {
        "node_pressure_cpu_waiting_seconds_total": 20.131439,
        "node_pressure_io_waiting_seconds_total": 1.41452,
        "node_pressure_io_stalled_seconds_total": 1.157917,
        "node_pressure_memory_waiting_seconds_total": 0.000012,
        "node_pressure_memory_stalled_seconds_total": 0.00001,
        "node_pressure_irq_stalled_seconds_total": 0.0025,
    }


def test_a_kernel_need_not_know_of_interrupts_pressure(tmp_path: Path) -> None:
    found = values(pressure(read(lay_out(tmp_path, {"proc/pressure/irq": None})), 0.0))
    assert len(found) == 5


def test_a_kernel_without_pressure_is_an_error(tmp_path: Path) -> None:
    names = ("cpu", "io", "memory", "irq")
    machine = lay_out(tmp_path, dict.fromkeys((f"proc/pressure/{name}" for name in names), None))
    with pytest.raises(OSError, match=f"no data in {tmp_path}/proc/pressure: requires Linux 4.20"):
        pressure(read(machine), 0.0)


def test_a_file_that_is_refused_while_it_is_read_is_named(tmp_path: Path) -> None:
    machine = lay_out(tmp_path, {"proc/pressure/cpu": None})
    (machine / "proc/pressure/cpu").mkdir()  # can be opened, but not read
    with pytest.raises(IsADirectoryError, match=f"{tmp_path}/proc/pressure/cpu"):
        pressure(read(machine), 0.0)


def test_the_kernel_s_own_names(tmp_path: Path) -> None:
    (point,) = uname(read(lay_out(tmp_path)), 0.0)
    assert dict(point.labels) == {
        "sysname": "Linux",
        "release": os.uname().release,
        "version": os.uname().version,
        "machine": os.uname().machine,
        "nodename": os.uname().nodename,
        "domainname": "example.net",
    }


def test_time_zone_and_clocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-5:30")
    time.tzset()
    try:
        found = values(clocks(read(lay_out(tmp_path)), 1.5e9))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert found == {
        "node_time_seconds": 1.5e9,
        "node_time_zone_offset_seconds XYZ": 19800,
        "node_time_clocksource_available_info 0 tsc": 1,
        "node_time_clocksource_available_info 0 hpet": 1,
        "node_time_clocksource_available_info 0 acpi_pm": 1,
        "node_time_clocksource_current_info 0 tsc": 1,
    }


def test_a_machine_without_clock_sources_has_its_time(tmp_path: Path) -> None:
    machine = lay_out(tmp_path)
    found = values(clocks(Files(f"{machine}/proc", f"{machine}/nowhere"), 1.5e9))
    assert [name.split()[0] for name in found] == ["node_time_seconds", "node_time_zone_offset_seconds"]
