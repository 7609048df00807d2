"""The real scrapers, and curl, with users and tokens, right and wrong."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.credentials import PASSWORD, TOKEN, settings
from tests.integration.conftest import StartsPrometheus, StartsVictoriaMetrics
from tests.integration.programs import Scraper, eventually
from tests.program import Program

SCRAPERS = ("2.24", "2.42", "3", "VictoriaMetrics")
RIGHT = {"basic": f"basic_auth: {{username: prom, password: {PASSWORD}}}", "bearer": f"bearer_token: {TOKEN}"}
WRONG = {"basic": "basic_auth: {username: prom, password: geheim}", "bearer": "bearer_token: geheim", "none": ""}


@pytest.fixture
def start_stator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], Program]]:
    with ExitStack() as running:

        def start() -> Program:
            folder = tmp_path_factory.mktemp("stator")
            program = running.enter_context(Program({"STTR_COLLECTORS": "wave", **settings(folder)}, folder))
            program.wait_for("ready")
            return program

        yield start


def job(name: str, credentials: str, stator: Program, interval: str) -> str:
    """A job of a scraper's configuration."""
    return f"""
  - job_name: {name}
    scrape_interval: {interval}
    scrape_timeout: {interval}
    static_configs: [{{targets: ['127.0.0.1:{stator.port}']}}]
    {credentials}
"""


@pytest.mark.parametrize("name", SCRAPERS)
def test_scrapers_get_in_with_users_and_tokens_and_not_with_wrong_ones(
    name: str,
    start_stator: Callable[[], Program],
    prometheus: StartsPrometheus,
    victoria_metrics: StartsVictoriaMetrics,
) -> None:
    # Of its own, since all scrapes come from one address, and failures end the tries of an address.
    stator, guessed = start_stator(), start_stator()
    jobs = [job(f"right_{kind}", credentials, stator, "1s") for kind, credentials in RIGHT.items()]
    jobs += [job(f"wrong_{kind}", credentials, guessed, "5s") for kind, credentials in WRONG.items()]
    config = f"scrape_configs:{''.join(jobs)}"
    scraper: Scraper = victoria_metrics(config) if name == "VictoriaMetrics" else prometheus(config, name)

    def health() -> dict[str, tuple[str, bool]]:
        targets = {target["labels"]["job"]: target for target in scraper.targets()}
        return {name: (target["health"], "401" in target["lastError"]) for name, target in targets.items()}

    expected = {f"right_{kind}": ("up", False) for kind in RIGHT} | {f"wrong_{kind}": ("down", True) for kind in WRONG}
    eventually(lambda: health() == expected, within=30)
    eventually(lambda: len(scraper.query("wave_sine")) == 3 * len(RIGHT))
    assert len(guessed.lines("wrong credentials")) == 1
    assert not stator.lines(level="warning")
    for program in (stator, guessed):
        for secret in (PASSWORD, TOKEN, "geheim"):
            assert secret not in program.output


@pytest.mark.parametrize(
    ("flags", "status"),
    [
        (["--user", f"prom:{PASSWORD}"], "200"),
        (["--user", f"prom:{PASSWORD}", "--anyauth"], "200"),
        (["--oauth2-bearer", TOKEN], "200"),
        (["--user", "prom:wrong"], "401"),
        (["--oauth2-bearer", "wrong"], "401"),
        ([], "401"),
    ],
)
def test_curl_gets_in_too(start_stator: Callable[[], Program], flags: list[str], status: str, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{start_stator().port}/metrics"
    command = ["curl", "-s", "-o", str(tmp_path / "body"), "-w", "%{http_code}", *flags, url]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == status
