"""The real programs scrape and check a service that serves https, with the right and the wrong certificates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority, Certificate
from tests.integration.conftest import StartsPrometheus, StartsVictoriaMetrics
from tests.integration.programs import Consul, Scraper, eventually
from tests.integration.test_discovery import scrape_config
from tests.program import Program as Stator

HTTPS = "tls_config: {{ca_file: {ca}, cert_file: {cert}, key_file: {key}}}"
ANONYMOUS = "tls_config: {{ca_file: {ca}}}"


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue()


@pytest.fixture(scope="module")
def guarded(
    authority: Authority, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stator]:
    """One that lets in only `prometheus`."""
    env = {
        **served_by(certificate),
        "STTR_SERVER_CLIENTCAFILE": str(authority.cert),
        "STTR_SERVER_CLIENTNAMES": "prometheus",
    }
    with Stator(env, tmp_path_factory.mktemp("stator")) as running:
        running.wait_for("ready")
        yield running


def served_by(certificate: Certificate) -> dict[str, str]:
    return {"STTR_SERVER_CERTFILE": str(certificate.cert), "STTR_SERVER_KEYFILE": str(certificate.key)}


def job(name: str, scheme: str, port: int, tls: str = "") -> str:
    fields = [f"job_name: {name}", f"scheme: {scheme}", f'static_configs: [{{targets: ["127.0.0.1:{port}"]}}]', tls]
    return "\n- " + "\n  ".join(filter(None, fields))


@pytest.mark.parametrize("scraper", ["2.24", "2.42", "3", "VictoriaMetrics"])
def test_a_scraper_gets_in_with_the_right_certificates_alone(
    guarded: Stator,
    authority: Authority,
    stranger: Authority,
    scraper: str,
    prometheus: StartsPrometheus,
    victoria_metrics: StartsVictoriaMetrics,
) -> None:
    ours = {name: authority.issue("a.example", common_name=name) for name in ("prometheus", "other")}
    wrong = stranger.issue("a.example", common_name="prometheus")

    def tls(own: Certificate | None, ca: Authority = authority) -> str:
        if own is None:
            return ANONYMOUS.format(ca=ca.cert)
        return HTTPS.format(ca=ca.cert, cert=own.cert, key=own.key)

    jobs = {
        "right": ("https", tls(ours["prometheus"])),
        "unnamed": ("https", tls(ours["other"])),
        "unknown": ("https", tls(wrong)),
        "anonymous": ("https", tls(None)),
        "distrusting": ("https", tls(ours["prometheus"], stranger)),
        "plain": ("http", ""),
    }
    config = "global: {scrape_interval: 1s}\nscrape_configs:"
    config += "".join(job(name, scheme, guarded.port, tls_config) for name, (scheme, tls_config) in jobs.items())
    running: Scraper = victoria_metrics(config) if scraper == "VictoriaMetrics" else prometheus(config, version=scraper)
    targets = eventually(lambda: judged(running, len(jobs)))
    assert {name: health for name, (health, _) in targets.items()} == {
        name: "up" if name == "right" else "down" for name in jobs
    }
    assert "403" in targets["unnamed"][1]
    assert "403" in targets["anonymous"][1]
    assert "400" in targets["plain"][1]
    assert "x509" in targets["distrusting"][1]


def judged(scraper: Scraper, number: int) -> dict[str, tuple[str, str]]:
    """Health and last error of each job, once all have been scraped."""
    found = {each["labels"]["job"]: (each["health"], each["lastError"]) for each in scraper.targets()}
    is_whole = len(found) == number and all(health == "up" or error for health, error in found.values())
    return found if is_whole else {}


def test_a_scraper_finds_out_from_consul_that_it_is_https(
    consul: Consul, authority: Authority, certificate: Certificate, prometheus: StartsPrometheus, tmp_path: Path
) -> None:
    env = {**served_by(certificate), "STTR_CLIENT_BASEURI": consul.url, "STTR_ROSTER_SERVICE_TAGS": "metrics"}
    with Stator(env, tmp_path) as stator:
        stator.wait_for("registered")
        config = scrape_config(consul) + f"  tls_config: {{ca_file: {authority.cert}}}\n"
        running = prometheus(config)
        target = eventually(lambda: api_service(running))
        assert (target["scrapeUrl"], target["health"]) == (f"https://127.0.0.1:{stator.port}/metrics", "up")


def api_service(running: Scraper) -> dict[str, Any]:
    """The target that was found in Consul, once it was scraped."""
    found = (each for each in running.targets() if each["labels"]["job"] == "api_services")
    return next((each for each in found if each["health"] != "unknown"), {})


def registering(consul: Consul, certificate: Certificate, folder: Path, **more: str) -> Stator:
    env = {
        **served_by(certificate),
        "STTR_CLIENT_BASEURI": consul.url,
        "STTR_CONSUL_CHECKINTERVAL": "1s",
        "STTR_ROSTER_INTERVAL": "1s",
        "STTR_ROSTER_SERVICE_ID": "1",
        **more,
    }
    return Stator(env, folder)


def check(consul: Consul) -> tuple[str, str] | None:
    """State and output of the service's check, once the agent has made it."""
    (found,) = consul.checks().values()
    return (found["Status"], found["Output"]) if found["Output"] else None


@pytest.mark.parametrize("setting", ["STTR_CONSUL_CHECKSKIPVERIFY=true", "STTR_CONSUL_CHECK=ttl"])
def test_consul_checks_over_https(
    consul: Consul, authority: Authority, certificate: Certificate, tmp_path: Path, setting: str
) -> None:
    name, value = setting.split("=")
    clients = {"STTR_SERVER_CLIENTCAFILE": str(authority.cert)}
    with registering(consul, certificate, tmp_path, **clients, **{name: value}) as stator:
        stator.wait_for("registered")
        status, output = eventually(lambda: check(consul)) or ("", "")
        assert (status, "https://127.0.0.1" in output, "200" in output) == ("passing", True, True)
        assert stator.lines(level="warning") == []


def test_an_agent_that_does_not_know_the_authority_is_named_in_one_line(
    consul: Consul, certificate: Certificate, tmp_path: Path
) -> None:
    with registering(consul, certificate, tmp_path) as stator:
        line = stator.wait_for(
            "the agent does not trust our certificate; with STTR_CONSUL_CHECKSKIPVERIFY=true its check need not",
            within=20,
        )
        assert "x509" in line["reason"]
        status, output = check(consul) or ("", "")
        assert (status, "x509" in output) == ("critical", True)
        assert len(stator.lines(line["msg"])) == 1


@pytest.mark.parametrize("how", ["store", "agent"])
def test_an_agent_that_knows_the_authority_checks_over_https(
    authority: Authority, certificate: Certificate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "consul").mkdir()
    flags = []
    if how == "store":
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.cert))
    else:
        config = {"enable_agent_tls_for_checks": True, "ca_file": str(authority.cert), "server_name": "localhost"}
        (tmp_path / "tls.json").write_text(json.dumps(config))
        flags = [f"-config-file={tmp_path / 'tls.json'}"]
    with (
        Consul(tmp_path / "consul", *flags) as consul,
        registering(consul, certificate, tmp_path) as stator,
    ):
        stator.wait_for("registered")
        status, output = eventually(lambda: check(consul)) or ("", "")
        assert status == "passing"
        assert output.startswith("HTTP GET https://127.0.0.1:")
