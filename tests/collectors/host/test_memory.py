"""Memory and paging, in the fields that node_exporter knows."""

import re
from pathlib import Path

import pytest

from stator.collectors.host.config import VmstatConfig
from stator.collectors.host.memory import meminfo, vmstat
from tests.collectors.host.machine import FILES, lay_out, read, values


def test_memory_is_in_bytes_and_pages_are_counted(tmp_path: Path) -> None:
    found = values(meminfo(read(lay_out(tmp_path)), 0.0))
    assert found["node_memory_MemTotal_bytes"] == 24684092 * 1024
    assert found["node_memory_Active_anon_bytes"] == 1544 * 1024
    assert found["node_memory_HugePages_Total"] == 6
    assert found["node_memory_Hugepagesize_bytes"] == 2 * 2**20


def test_fields_that_are_missing_or_unknown_change_nothing_else(tmp_path: Path) -> None:
    found = values(meminfo(read(lay_out(tmp_path)), 0.0))
    assert "node_memory_Cached_bytes" not in found
    assert not any("PagesOfTomorrow" in name for name in found)
    assert len(found) == 18


def test_a_field_that_is_no_number_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="much"):
        list(meminfo(read(lay_out(tmp_path, {"proc/meminfo": "MemTotal: much kB\n"})), 0.0))


def test_paging_is_of_no_type_that_prometheus_knows(tmp_path: Path) -> None:
    points = list(vmstat(re.compile(VmstatConfig().fields), read(lay_out(tmp_path)), 0.0))
    assert {point.type for point in points} == {"unknown"}
    assert values(points) == {
        "node_vmstat_pgpgin": 770261,
        "node_vmstat_pgpgout": 2480236,
        "node_vmstat_pswpin": 1,
        "node_vmstat_pswpout": 2,
        "node_vmstat_pgfault": 4621634,
        "node_vmstat_pgmajfault": 640,
        "node_vmstat_oom_kill": 4,
    }


def test_fields_are_found_again_where_they_have_moved(tmp_path: Path) -> None:
    wanted, machine = re.compile("^oom_kill$"), lay_out(tmp_path)
    for text in (FILES["proc/vmstat"], f"new_field 9\n{FILES['proc/vmstat']}"):
        lay_out(tmp_path, {"proc/vmstat": text})
        assert values(vmstat(wanted, read(machine), 0.0)) == {"node_vmstat_oom_kill": 4}
