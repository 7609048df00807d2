"""The table of settings."""

import pytest

from stator.config import Config
from stator.settings.declare import iter_settings
from stator.settings.table import HEADINGS, markdown, rows, table
from tests.settings.conftest import RunFlags

# The original's variables, with its defaults; the length of log fields had none, and Stator's is what its users set.
ORIGINAL = {
    "STTR_LOGGER_MAXLEN": "999",
    "STTR_CLIENT_BASEURI": "",
    "STTR_CLIENT_TIMEOUT": "1m",
    "STTR_CLIENT_TIMEOUTSHORT": "10s",
    "STTR_CLIENT_HEADERS": "",
    "STTR_CLIENT_SKIPVERIFY": "false",
    "STTR_CLIENT_USER": "",
    "STTR_CLIENT_PASS": "",
    "STTR_CLIENT_REDACTHEADERS": "",
    "STTR_CLIENT_SKIPBODY": "false",
    "STTR_CONSUL_CHECKINTERVAL": "1m",
    "STTR_CONSUL_CHECKTIMEOUT": "10s",
    "STTR_CONSUL_DEREGISTERAFTER": "30m",
    "STTR_ROSTER_INTERVAL": "15m",
    "STTR_ROSTER_SERVICE_ID": "",
    "STTR_ROSTER_SERVICE_NAME": "stator",
    "STTR_ROSTER_SERVICE_TAGS": "",
    "STTR_ROSTER_SERVICE_IPADDRESS": "lookup",
    "STTR_ROSTER_SERVICE_MONITORSPEC": "http://%s:%d/monitor",
    "STTR_DISKUSAGE_PATHS": "/",
    "STTR_SERVER_HOST": "",
    "STTR_SERVER_PORT": "8087",
    "STTR_SERVER_TIMEOUT": "10s",
}


@pytest.mark.parametrize("name", ORIGINAL)
def test_a_variable_of_the_original_stands_in_the_table_with_its_default(name: str) -> None:
    defaults = {key: default for key, _, default, _, _ in rows(iter_settings(Config, "STTR"))}
    assert defaults[name] == ORIGINAL[name]


def test_help_has_every_row_of_the_table(run_flags: RunFlags) -> None:
    lines = run_flags("-h").out.splitlines()
    for key, type_, default, required, desc in rows(iter_settings(Config, "STTR")):
        (line,) = [line for line in lines if line.startswith(f"{key} ")]
        assert line.split() == f"{key} {type_} {default} {required} {desc}".split()


def test_a_secrets_description_names_the_variable_of_its_file() -> None:
    (desc,) = [desc for key, *_, desc in rows(iter_settings(Config, "STTR")) if key == "STTR_CONSUL_TOKEN"]
    assert "STTR_CONSUL_TOKEN_FILE" in desc


def test_every_setting_says_what_it_is_for() -> None:
    assert all(desc for *_, desc in rows(iter_settings(Config, "STTR")))


def test_columns_are_as_wide_as_what_they_hold() -> None:
    lines = table([("A_LONG_NAME", "T", "", "", "what it is for")]).splitlines()
    assert lines == [
        "KEY          TYPE  DEFAULT  REQUIRED  DESCRIPTION",
        "A_LONG_NAME  T                        what it is for",
    ]


def test_a_long_default_widens_only_its_own_line() -> None:
    lines = table([("A", "T", "x" * 60, "", "long"), ("B", "T", "", "", "short")]).splitlines()
    assert lines == [
        "KEY  TYPE  DEFAULT  REQUIRED  DESCRIPTION",
        f"A    T     {'x' * 60}            long",
        "B    T                        short",
    ]


def test_markdown_keeps_bars_out_of_the_way() -> None:
    heading, rule, row = markdown([("A", "T", "a|b", "", "d")]).splitlines()
    assert heading == f"| {' | '.join(HEADINGS)} |"
    assert rule == "| --- | --- | --- | --- | --- |"
    assert row == "| A | T | a\\|b |  | d |"


def test_markdown_escapes_what_it_would_take_for_markup() -> None:
    *_, row = markdown([("A", "T", r"^pg.*\d.*", "", "<d>")]).splitlines()
    assert row == r"| A | T | ^pg.\*\\d.\* |  | \<d> |"
