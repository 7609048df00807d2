"""A Config as plain data for people and JSON."""

from pathlib import Path
from typing import Any

from msgspec import json

from stator.config import Config
from stator.settings.dump import dump
from tests.decoding import decode


def dumped(**variables: str) -> dict[str, Any]:
    return dump(decode(Config, "STTR", {f"STTR_{name}": value for name, value in variables.items()}))


def test_durations_are_readable() -> None:
    assert dumped(ROSTER_INTERVAL="90s")["roster"]["interval"] == "1m30s"


def test_lists_and_pairs_are_lists() -> None:
    service = dumped(ROSTER_SERVICE_TAGS="dev,metrics", ROSTER_SERVICE_META="zone=a,rack=7")["roster"]["service"]
    assert service["tags"] == ["dev", "metrics"]
    assert service["meta"] == [["zone", "a"], ["rack", "7"]]


def test_secrets_are_hidden_and_absent_ones_are_empty(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cr3t")
    data = dumped(CLIENT_USER="me", CLIENT_PASS="s3cr3t", CONSUL_TOKEN_FILE=str(tmp_path / "token"))
    assert data["client"]["password"] == data["consul"]["token"] == "--redacted--"
    assert dumped()["client"]["password"] == dumped()["consul"]["token"] == ""


def test_values_of_headers_that_hold_secrets_are_hidden() -> None:
    data = dumped(CLIENT_HEADERS="accept,a,AUTHORIZATION,b,x-Key,c,Host,d", CLIENT_REDACTHEADERS="HOST")
    assert ",".join(data["client"]["headers"]) == (
        "accept,a,AUTHORIZATION,--redacted--,x-Key,--redacted--,Host,--redacted--"
    )


def test_users_and_query_values_of_uris_are_hidden_in_whatever_setting() -> None:
    service = dumped(
        ROSTER_SERVICE_MONITORSPEC="https://me:s3cr3t@%s:%d/monitor?token=s3cr3t&collect[]=wave",
        ROSTER_SERVICE_META="docs=http://me@docs?key=s3cr3t",
    )["roster"]["service"]
    assert service["monitor_spec"] == "https://--redacted--@%s:%d/monitor?token=--redacted--&collect[]=wave"
    assert service["meta"] == [["docs", "http://--redacted--@docs?key=--redacted--"]]


def test_every_default_can_be_written_as_json() -> None:
    assert json.decode(json.encode(dumped())) == dumped()
