"""No secret is in any output."""

import io
import string
from contextlib import redirect_stderr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import json

from stator.config import Config, Environment
from stator.log.redact import HARMLESS_HEADERS
from stator.settings import command_line
from stator.settings.declare import ConfigError
from stator.settings.dump import dump
from tests.decoding import decode

# Long and odd enough that no output has one by chance.
SECRETS = st.text(alphabet=string.ascii_letters + string.digits + "§$%&/()?'\"\\ ü", min_size=8, max_size=30).map(
    lambda text: f"q{text}q"
)
NAMED = st.from_regex(r"X-[A-Z][a-z]{1,8}", fullmatch=True)
CASES = st.sampled_from([str.lower, str.upper, str.title])


@st.composite
def environments(draw: st.DrawFn) -> tuple[dict[str, str], list[str]]:
    """An environment, and the secrets that it holds."""
    named, well_known = draw(NAMED), draw(st.sampled_from(sorted(HARMLESS_HEADERS)))
    password, token, *values = draw(st.lists(SECRETS, unique=True, min_size=4, max_size=4))
    redacted, cased = draw(CASES)(well_known), draw(CASES)(well_known)
    environment = {
        "STTR_CLIENT_USER": "me",
        "STTR_CLIENT_PASS": password,
        "STTR_CONSUL_TOKEN": token,
        "STTR_CLIENT_HEADERS": f"X-Short,k,{named},{values[0]},{cased},{values[1]}",
        "STTR_CLIENT_REDACTHEADERS": f"X-Other,{redacted}",
    }
    return environment, [password, token, *values]


def holds_none(output: str, secrets: list[str]) -> None:
    for secret in secrets:
        # As it is, and as Python and JSON write it.
        for written in (secret, repr(secret)[1:-1], json.encode(secret).decode()[1:-1]):
            assert written not in output


def load(argv: list[str], environment: dict[str, str]) -> None:
    command_line.load(Environment.of, prefix="STTR", about="about", version="1", argv=argv, environ=environment)


@given(environments())
def test_no_secret_is_in_a_dump(given_: tuple[dict[str, str], list[str]]) -> None:
    environment, secrets = given_
    config = decode(Config, "STTR", environment)
    dumped = dump(config)
    holds_none(str(dumped), secrets)
    holds_none(json.encode(dumped).decode(), secrets)
    assert dumped["client"]["headers"][:2] == ["X-Short", "--redacted--"]


@given(environments())
def test_no_secret_is_in_a_configs_repr(given_: tuple[dict[str, str], list[str]]) -> None:
    environment, secrets = given_
    config = decode(Config, "STTR", environment)
    holds_none(f"{config} {config!r} {config.client.password!s} {config.consul.token!r}", secrets)


@given(environments())
# Each example reads what it alone has written.
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
def test_no_secret_is_in_what_conf_prints(
    capfd: pytest.CaptureFixture[str], given_: tuple[dict[str, str], list[str]]
) -> None:
    environment, secrets = given_
    with pytest.raises(SystemExit) as ended:
        load(["-c"], environment)
    printed = capfd.readouterr()
    assert ended.value.code == 0
    holds_none(printed.out + printed.err, secrets)


@given(environments(), st.sampled_from(["STTR_CLIENT_USER", "STTR_CLIENT_HEADERS", "STTR_CLIENT_REDACTHEADERS", ""]))
def test_no_secret_is_in_a_mistakes_line(given_: tuple[dict[str, str], list[str]], broken: str) -> None:
    environment, secrets = given_
    environment["STTR_SERVER_PORT"] = "x"
    environment["STTR_CLIENT_BASEURI"] = f"http://me:{secrets[0]}@consul"
    environment["STTR_CONSUL_TOKEN_FILE"] = "/dev/null"
    if broken:
        environment[broken] = f"{environment[broken]},x" if broken == "STTR_CLIENT_HEADERS" else ""
    with pytest.raises(ConfigError) as error:
        decode(Config, "STTR", environment)
    assert len(error.value.problems) >= 3
    holds_none("\n".join(error.value.problems), secrets)


@given(environments())
def test_no_secret_is_in_what_a_failed_start_prints(given_: tuple[dict[str, str], list[str]]) -> None:
    environment, secrets = given_
    environment["STTR_SERVER_PORT"] = "x"
    with redirect_stderr(io.StringIO()) as printed, pytest.raises(SystemExit):
        load([], environment)
    holds_none(printed.getvalue(), secrets)
    assert "STTR_SERVER_PORT='x'" in printed.getvalue()
