"""Once registered, always registered: with the real agent deregistered from, killed, stopped, away, and back.

Each test records its time from the event to the catalog showing the service; the times are printed in the end.
"""

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from http.client import HTTPException
from itertools import pairwise
from pathlib import Path

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import StartsPrometheus
from tests.integration.programs import Consul, ProgramError, eventually
from tests.program import Program, stand_still

SERVICE = "stator-1"
AWAY = (OSError, HTTPException, ProgramError)

Records = Callable[[str, object], None]


def discovery(consul: Consul, **more: str) -> dict[str, str]:
    return {
        "STTR_CLIENT_BASEURI": consul.url,
        "STTR_ROSTER_SERVICE_ID": "1",
        "STTR_ROSTER_SERVICE_TAGS": "dev,metrics",
        "STTR_ROSTER_SERVICE_IPADDRESS": "127.0.0.1",
        "STTR_CONSUL_CHECKINTERVAL": "1s",
        **more,
    }


@pytest.fixture
def stator(consul: Consul, tmp_path: Path) -> Iterator[Program]:
    with Program(discovery(consul), tmp_path) as running:
        running.wait_for("registered")
        eventually(lambda: consul.catalogued(SERVICE))
        yield running
        assert running.stop() == 0
        assert running.errors == ""
        assert consul.service(SERVICE) is None


def roster(stator: Program) -> dict[str, float]:
    """The roster's metrics, by name."""
    families = text_string_to_metric_families(stator.get("/metrics?collect[]=roster").body.decode())
    samples = [sample for family in families for sample in family.samples]
    return {sample.name.removeprefix("stator_roster_"): sample.value for sample in samples if not sample.labels}


def quickly(probe: Callable[[], object], within: float = 20.0) -> None:
    """Probes until the result is true; an agent that is away counts as false."""

    def is_true() -> bool:
        with suppress(*AWAY):
            return bool(probe())
        return False

    eventually(is_true, within, every=0.005)


def comes_back(consul: Consul) -> tuple[float, float]:
    """Starts the agent, which has forgotten everything.

    Returns:
        Seconds from its first answer until it lists the service, and from the catalog's until that does.
    """
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(consul.start)
        quickly(lambda: consul.get("/v1/agent/self"))
        answers = time.monotonic()
        quickly(lambda: consul.service(SERVICE))
        listed = time.monotonic() - answers
        quickly(lambda: consul.get("/v1/catalog/nodes"))
        answers = time.monotonic()
        quickly(lambda: consul.catalogued(SERVICE))
        starting.result()
    return listed, time.monotonic() - answers


def came_back(stator: Program, times: int) -> None:
    """Waits until it has logged a number of recoveries."""
    quickly(lambda: len(stator.lines("registered again")) == times)


def test_deregistered_by_hand_it_is_back_within_half_a_second(
    consul: Consul, stator: Program, record_property: Records
) -> None:
    for times in (1, 2, 3):
        start = time.monotonic()
        consul.request("PUT", f"/v1/agent/service/deregister/{SERVICE}")
        came_back(stator, times)
        quickly(lambda: consul.catalogued(SERVICE))
        seconds = time.monotonic() - start
        record_property("deregistered by hand, in the catalog after", f"{seconds:.3f} s")
        assert seconds < 0.5
    metrics = roster(stator)
    assert (metrics["registrations_total"], metrics["recoveries_total"], metrics["registered"]) == (4, 3, 1)


def test_altered_by_hand_it_is_corrected(consul: Consul, stator: Program, record_property: Records) -> None:
    start = time.monotonic()
    consul.register({"ID": SERVICE, "Name": "stator", "Address": "127.0.0.1", "Port": 1, "Tags": ["other"]})
    quickly(lambda: stator.lines("registered again"))
    quickly(lambda: (entry := consul.catalogued(SERVICE)) and entry["ServiceTags"] == ["dev", "metrics"])
    record_property("altered by hand, right in the catalog after", f"{time.monotonic() - start:.3f} s")
    (lost,) = stator.lines("registration lost")
    assert "Port is 1 instead of" in lost["reason"]
    assert "Tags is ['other'] instead of" in lost["reason"]


def test_a_check_removed_by_hand_is_back_and_maintenance_stays(consul: Consul, tmp_path: Path) -> None:
    with Program(discovery(consul, STTR_ROSTER_INTERVAL="1s"), tmp_path) as stator:
        stator.wait_for("registered")
        consul.request("PUT", f"/v1/agent/service/maintenance/{SERVICE}?enable=true&reason=moving")
        consul.request("PUT", f"/v1/agent/check/deregister/service:{SERVICE}")
        quickly(lambda: f"service:{SERVICE}" in consul.checks())
        assert consul.checks()[f"_service_maintenance:{SERVICE}"]["Notes"] == "moving"
        stator.wait_for("registered again")
        (lost,) = stator.lines("registration lost")
        assert lost["reason"] == f"check service:{SERVICE} is missing"


def test_maintenance_survives_a_restart_of_ours(consul: Consul, tmp_path: Path) -> None:
    for times in ("first", "second"):
        folder = tmp_path / times
        folder.mkdir()
        with Program(discovery(consul), folder) as stator:
            stator.wait_for("registered")
            consul.request("PUT", f"/v1/agent/service/maintenance/{SERVICE}?enable=true")
            stator.kill()
    assert f"_service_maintenance:{SERVICE}" in consul.checks()


def test_an_agent_killed_again_and_again_lists_it_within_a_second_of_its_answering(
    consul: Consul, stator: Program, record_property: Records
) -> None:
    for times in range(1, 6):
        consul.kill()
        listed, catalogued = comes_back(consul)
        record_property(f"killed, kill {times}: listed by the agent after", f"{listed:.3f} s")
        record_property(f"killed, kill {times}: in the catalog after", f"{catalogued:.3f} s")
        assert listed < 1
        came_back(stator, times)
    assert len(stator.lines("registration lost")) == 5
    assert roster(stator)["registrations_total"] == 6


def test_after_a_minute_without_an_agent_it_is_back_within_a_second_of_its_answering(
    consul: Consul, stator: Program, record_property: Records
) -> None:
    consul.kill()
    eventually(lambda: roster(stator)["registered"] == 0)
    before = len(stator.lines())
    time.sleep(60)  # the absence itself
    assert len(stator.lines()) - before <= 3
    assert len([line for line in stator.lines() if line["level"] in ("warning", "error")]) <= 3
    listed, catalogued = comes_back(consul)
    record_property("away for a minute: listed by the agent after", f"{listed:.3f} s")
    record_property("away for a minute: in the catalog after", f"{catalogued:.3f} s")
    assert listed < 1
    assert stator.wait_for("registered again")["away_seconds"] > 60


def test_an_agent_that_stood_still_for_20_seconds_is_not_registered_with_again(
    consul: Consul, stator: Program, record_property: Records
) -> None:
    process = psutil.Process(stator.pid)

    def held() -> tuple[int, int]:
        return process.num_threads(), len(process.net_connections())

    eventually(lambda: consul.checks()[f"service:{SERVICE}"]["Status"] == "passing")
    time.sleep(1)  # the watch has begun
    before = held()
    stand_still(consul.pid)
    time.sleep(20)  # the standstill itself
    consul.send(signal.SIGCONT)
    start = time.monotonic()
    quickly(lambda: consul.catalogued(SERVICE))
    record_property("stood still: in the catalog after", f"{time.monotonic() - start:.3f} s")
    time.sleep(2)  # what might follow
    assert roster(stator)["registrations_total"] == 1
    assert roster(stator)["registered"] == 1
    assert held() == before


def test_stops_in_time_though_the_agent_stands_still(consul: Consul, tmp_path: Path) -> None:
    with Program(discovery(consul), tmp_path) as stator:
        stator.wait_for("registered")
        stand_still(consul.pid)
        try:
            assert stator.stop(within=8) == 0
        finally:
            consul.send(signal.SIGCONT)
        assert stator.lines("failed to unregister", level="error")


def test_without_an_agent_it_runs_and_registers_when_there_is_one(
    consul: Consul, tmp_path: Path, record_property: Records
) -> None:
    consul.kill()
    with Program(discovery(consul), tmp_path) as stator:
        stator.wait_for("failed to register, trying again")
        assert stator.get("/monitor").status == 200
        assert roster(stator)["registered"] == 0
        assert roster(stator)["last_confirmed_timestamp_seconds"] == 0
        listed, catalogued = comes_back(consul)
        record_property("away from the start: listed by the agent after", f"{listed:.3f} s")
        record_property("away from the start: in the catalog after", f"{catalogued:.3f} s")
        assert listed < 1
        stator.wait_for("registered")
        assert abs(time.time() - roster(stator)["last_confirmed_timestamp_seconds"]) < 60


def test_a_service_that_hangs_is_not_registered_again_until_it_answers(consul: Consul, stator: Program) -> None:
    (worker,) = stator.workers
    worker.suspend()
    try:
        consul.request("PUT", f"/v1/agent/service/deregister/{SERVICE}")
        stator.wait_for("registration lost")
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert consul.service(SERVICE) is None
            time.sleep(0.02)
    finally:
        worker.resume()
    stator.wait_for("registered again")


def test_prometheus_misses_no_more_than_five_seconds_of_an_agents_restart(
    consul: Consul, stator: Program, prometheus: StartsPrometheus, record_property: Records
) -> None:
    running = prometheus(
        f"""
global: {{scrape_interval: 1s}}
scrape_configs:
  - job_name: stator
    consul_sd_configs: [{{server: "127.0.0.1:{consul.http_port}", services: [stator], refresh_interval: 1s}}]
"""
    )
    eventually(lambda: [each for each in running.query('up{job="stator"}') if each.value == 1])
    begin = time.time()
    time.sleep(3)  # what is compared with
    consul.kill()
    comes_back(consul)
    time.sleep(8)  # where a gap would show
    ups = running.samples('up{job="stator"}', since=begin)
    assert {value for _, value in ups} == {1.0}
    stamps = [begin, *(stamp for stamp, _ in ups), time.time()]
    gap = max(later - earlier for earlier, later in pairwise(stamps))
    record_property("longest time without a sample of `up`", f"{gap:.1f} s")
    assert gap < 5
