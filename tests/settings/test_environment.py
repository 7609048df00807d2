"""From an environment to a Config."""

import re
from pathlib import Path
from typing import Any, Literal

import pytest
from attrs import evolve, frozen

from stator.config import Config
from stator.settings.declare import ConfigError, Constraint, Secret, at_least, iter_settings, section, setting
from stator.settings.duration import Duration
from stator.settings.environment import unknown_variables
from tests.decoding import decode


@frozen
class Engine:
    """A section."""

    max_speed: int = setting(7, desc="how fast", check=at_least(1))
    plugs: tuple[str, ...] = setting((), desc="which plugs")
    oil: tuple[tuple[str, str], ...] = setting((), desc="which oil where")


@frozen
class Car:
    """A Config with a setting of each type."""

    name: str = setting("beetle", desc="its name")
    open: bool = setting(default=False, desc="whether the roof is open")
    colour: Literal["red", "blue"] = setting("red", desc="its colour")
    nap: Duration = setting(Duration.parse("1m"), desc="how long it rests")
    key: Secret = setting(Secret(), desc="what starts it")
    stickers: tuple[str, ...] = setting(
        (),
        desc="word, word",
        check=Constraint("pairs", lambda words: len(words) % 2 == 0),
        show=lambda _, words: len(words),
    )
    engine: Engine = section(Engine)
    spare: Engine = section(Engine, env="")


def car(**variables: str) -> Car:
    return decode(Car, "CAR", {f"CAR_{name}": value for name, value in variables.items()})


def problems(**variables: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        car(**variables)
    return error.value.problems


def test_nothing_is_required() -> None:
    assert car() == Car()


def test_a_variable_is_named_by_the_sections_above_its_field() -> None:
    assert car(ENGINE_MAXSPEED="9").engine.max_speed == 9


def test_a_section_can_be_left_out_of_its_variables_names() -> None:
    assert car(MAXSPEED="9").spare.max_speed == 9


def test_a_given_value_wins_over_its_variable() -> None:
    variables = {"CAR_NAME": "beetle", "CAR_ENGINE_MAXSPEED": "fast"}
    given = {"CAR_NAME": "a, b", "CAR_ENGINE_MAXSPEED": 9}
    assert decode(Car, "CAR", variables, given) == Car("a, b", engine=Engine(9))


@pytest.mark.parametrize("text", ["true", "True", "TRUE", "t", "1", "yes", "on"])
def test_true_has_many_spellings(text: str) -> None:
    assert car(OPEN=text).open is True


@pytest.mark.parametrize("text", ["false", "False", "FALSE", "f", "0", "no", "off"])
def test_false_has_many_spellings(text: str) -> None:
    assert car(OPEN=text).open is False


def test_a_list_is_split_at_commas_and_rid_of_blanks() -> None:
    assert car(ENGINE_PLUGS=" a, b c ,,d,").engine.plugs == ("a", "b c", "d")


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert car(ENGINE_OIL="top=a=b, bottom =c,none=").engine.oil == (("top", "a=b"), ("bottom", "c"), ("none", ""))


@pytest.mark.parametrize("name", ["ENGINE_MAXSPEED", "OPEN", "COLOUR", "NAP"])
def test_an_empty_variable_leaves_the_default_where_it_can_be_no_value(name: str) -> None:
    assert car(**{name: ""}) == Car()


def test_an_empty_variable_is_an_empty_text_or_list_where_it_can_be() -> None:
    assert car(NAME="", ENGINE_PLUGS="") == evolve(Car(), name="")
    paths = decode(Config, "STTR", {"STTR_DISKUSAGE_PATHS": ""}).collectors.disk_usage.paths
    assert paths == ()


def test_all_mistakes_are_listed_at_once_with_value_and_what_was_expected() -> None:
    lines = problems(OPEN="perhaps", COLOUR="green", NAP="5", ENGINE_MAXSPEED="0", MAXSPEED="fast", ENGINE_OIL="=x")
    assert lines == [
        "CAR_OPEN='perhaps': expected true or false",
        "CAR_COLOUR='green': expected one of red, blue",
        "CAR_NAP='5': expected a duration such as 250ms, 10s or 1m30s",
        "CAR_ENGINE_MAXSPEED='0': expected an integer of 1 or more",
        "CAR_ENGINE_OIL='=x': expected a comma-separated list of key=value",
        "CAR_MAXSPEED='fast': expected an integer of 1 or more",
    ]


def test_an_integer_that_json_can_not_hold_is_refused() -> None:
    assert car(MAXSPEED=str(2**63 - 1)).spare.max_speed == 2**63 - 1
    assert problems(MAXSPEED=str(2**63)) == [f"CAR_MAXSPEED='{2**63}': expected an integer of 1 or more"]


def test_bytes_that_are_not_utf_8_are_refused() -> None:
    assert problems(NAME=b"k\xe4fer".decode(errors="surrogateescape")) == [
        "CAR_NAME='k\\udce4fer': expected text in UTF-8"
    ]


def test_a_value_that_may_hold_secrets_is_left_out() -> None:
    assert problems(STICKERS="one,two,three") == ["CAR_STICKERS: expected pairs"]


def test_a_user_in_a_uri_is_redacted() -> None:
    with pytest.raises(ConfigError, match=r"'http://--redacted--@consul'.*STTR_CLIENT_USER and STTR_CLIENT_PASS"):
        decode(Config, "STTR", {"STTR_CLIENT_BASEURI": "http://me:hunter2@consul"})


@pytest.mark.parametrize("uri", ["http://consul?token={}", "http://consul/?{}", "me:{}@consul", "http://me:x@y/{}@z"])
def test_a_wrong_uri_is_quoted_without_what_may_be_secret(uri: str) -> None:
    with pytest.raises(ConfigError) as error:
        decode(Config, "STTR", {"STTR_CLIENT_BASEURI": uri.format("hunter2"), "STTR_SERVER_PORT": "x"})
    bad_port, bad_uri = sorted(error.value.problems, reverse=True)
    assert bad_port == "STTR_SERVER_PORT='x': expected an integer from 0 to 65535"
    assert re.fullmatch(r"STTR_CLIENT_BASEURI='[^']*--redacted--[^']*': expected a URI [^']*", bad_uri)
    assert "hunter2" not in bad_uri


@pytest.mark.parametrize("more", [{}, {"STTR_CONSUL_TOKEN": "hunter3"}])
def test_what_is_no_path_of_a_secrets_file_is_not_quoted(more: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"^STTR_CONSUL_TOKEN_FILE: expected") as error:
        decode(Config, "STTR", {"STTR_CONSUL_TOKEN_FILE": "hunter2", **more})
    assert "hunter" not in str(error.value)


def test_a_known_secret_is_masked_in_other_settings_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"^STTR_LOGGER_LEVEL='--redacted--': expected one of debug"):
        decode(Config, "STTR", {"STTR_CONSUL_TOKEN": "hunter2", "STTR_LOGGER_LEVEL": "hunter2"})


def test_a_config_made_in_code_is_held_to_the_same_bounds() -> None:
    with pytest.raises(ValueError, match=r"^max_speed=0: expected an integer of 1 or more$"):
        Engine(max_speed=0)
    with pytest.raises(ValueError, match=r"^stickers: expected pairs$"):
        Car(stickers=("hunter2",))


def test_a_secret_comes_from_its_variable_as_it_is() -> None:
    assert car(KEY=" s3cr3t ").key.reveal() == " s3cr3t "


def test_a_secret_comes_from_a_file_without_its_line_end(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cr3t\n")
    assert car(KEY_FILE=str(tmp_path / "key")).key.reveal() == "s3cr3t"


def test_a_secret_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    key = car(KEY_FILE=str(file)).key
    file.write_text("new")
    assert key.reveal() == "new"


def test_the_last_secret_holds_while_its_file_is_gone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    key = car(KEY_FILE=str(file)).key
    file.unlink()
    assert key.reveal() == "old"


def test_the_last_secret_holds_while_its_file_is_being_written(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old")
    key = car(KEY_FILE=str(file)).key
    with file.open("w") as writer:
        assert key.reveal() == "old"
        writer.write("new")
    assert key.reveal() == "new"


def test_a_secrets_file_that_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "nowhere"
    assert problems(KEY_FILE=str(file)) == [
        f"CAR_KEY_FILE='{file}': expected a readable file (No such file or directory)"
    ]


def test_a_secrets_file_that_is_no_text_is_named_and_not_quoted(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(b"s3cr3t\xff")
    assert problems(KEY_FILE=str(file)) == [f"CAR_KEY_FILE='{file}': expected a readable file (not UTF-8)"]


def test_a_secret_and_its_file_at_once_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("s3cr3t")
    assert problems(KEY="s3cr3t", KEY_FILE=str(file)) == [
        f"CAR_KEY_FILE='{file}': expected only one of CAR_KEY and CAR_KEY_FILE to be set"
    ]


def test_an_empty_twin_is_as_good_as_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from file")
    assert car(KEY="", KEY_FILE=str(tmp_path / "key")).key.reveal() == "from file"
    assert car(KEY="from variable", KEY_FILE="").key.reveal() == "from variable"


def test_only_secrets_have_a_file_twin() -> None:
    (warning,) = unknown_variables(iter_settings(Car, "CAR"), "CAR", ["CAR_NAME_FILE", "CAR_KEY_FILE"])
    assert warning.startswith("CAR_NAME_FILE is not a setting")


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("STTR_LOGER_MAXLEN", "STTR_LOGGER_MAXLEN"),
        ("STTR_PORT", "STTR_SERVER_PORT"),
        ("STTR_CLIENT_BASE_URI", "STTR_CLIENT_BASEURI"),
        ("STTR_CONSUL_TOKENFILE", "STTR_CONSUL_TOKEN_FILE"),
    ],
)
def test_a_name_that_nothing_reads_is_listed_with_the_nearest_real_one(name: str, nearest: str) -> None:
    names = [name, "STTR_SERVER_PORT", "STTRESS", "HOME"]
    assert unknown_variables(iter_settings(Config, "STTR"), "STTR", names) == [
        f"{name} is not a setting and is not read; the nearest that is: {nearest}"
    ]


def test_the_originals_variables_mean_what_they_meant() -> None:
    config = decode(
        Config,
        "STTR",
        {
            "STTR_LOGGER_MAXLEN": "80",
            "STTR_CLIENT_BASEURI": "https://consul:8501",
            "STTR_CLIENT_TIMEOUT": "2m",
            "STTR_CLIENT_TIMEOUTSHORT": "3s",
            "STTR_CLIENT_HEADERS": "X-One,1,X-Two,2",
            "STTR_CLIENT_SKIPVERIFY": "true",
            "STTR_CLIENT_USER": "me",
            "STTR_CLIENT_PASS": "s3cr3t",
            "STTR_CLIENT_REDACTHEADERS": "X-Two",
            "STTR_CLIENT_SKIPBODY": "true",
            "STTR_CONSUL_CHECKINTERVAL": "5s",
            "STTR_CONSUL_CHECKTIMEOUT": "1s",
            "STTR_CONSUL_DEREGISTERAFTER": "1h",
            "STTR_ROSTER_INTERVAL": "30s",
            "STTR_ROSTER_SERVICE_ID": "123654",
            "STTR_ROSTER_SERVICE_NAME": "mine",
            "STTR_ROSTER_SERVICE_TAGS": "dev,metrics",
            "STTR_ROSTER_SERVICE_IPADDRESS": "10.0.0.1",
            "STTR_ROSTER_SERVICE_MONITORSPEC": "https://%s:%d/health",
            "STTR_DISKUSAGE_PATHS": "/,/tmp",
            "STTR_SERVER_HOST": "127.0.0.1",
            "STTR_SERVER_PORT": "8088",
            "STTR_SERVER_TIMEOUT": "4s",
        },
    )
    service = config.roster.service.build(config.server.port, config.client.base_uri)
    assert config.logger.max_len == 80
    assert config.client.base_uri == "https://consul:8501"
    assert (config.client.timeout, config.client.timeout_short) == (120e9, 3e9)
    assert config.client.headers == ("X-One", "1", "X-Two", "2")
    assert (config.client.skip_verify, config.client.skip_body) == (True, True)
    assert (config.client.user, config.client.password.reveal()) == ("me", "s3cr3t")
    assert config.client.redact_headers == ("X-Two",)
    assert (config.consul.check_interval, config.consul.check_timeout, config.consul.deregister_after) == (
        *(5e9, 1e9, 3600e9),
    )
    assert config.roster.interval.seconds == 30
    assert (service.id, service.name, service.tags) == ("mine-123654", "mine", ("dev", "metrics"))
    assert (service.address, service.monitor_url) == ("10.0.0.1", "https://10.0.0.1:8088/health")
    assert config.collectors.disk_usage.paths == ("/", "/tmp")
    assert (config.server.host, config.server.port, config.server.timeout.seconds) == ("127.0.0.1", 8088, 4)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"STTR_ROSTER_REGISTRAR": "consul"}, "STTR_CLIENT_BASEURI: expected a URI such as http://localhost:8500"),
        ({"STTR_ROSTER_REGISTRAR": "file"}, "STTR_FILE_PATH: expected the path of a file"),
        ({"STTR_FILE_PATH": "/nowhere/stator.json"}, "(/nowhere is no folder)"),
        ({"STTR_CLIENT_BASEURI": "consul:8500"}, "STTR_CLIENT_BASEURI='consul:8500': expected a URI such as"),
        ({"STTR_CLIENT_CAFILE": "/nowhere"}, "STTR_CLIENT_CAFILE='/nowhere': expected a readable file"),
        ({"STTR_ROSTER_SERVICE_NAME": ""}, "STTR_ROSTER_SERVICE_NAME='': expected a name"),
        (
            {"STTR_ROSTER_SERVICE_MONITORSPEC": "http://%s"},
            "expected a URL with %s for the address and %d for the port",
        ),
        ({"STTR_SERVER_PORT": "65536"}, "STTR_SERVER_PORT='65536': expected an integer from 0 to 65535"),
        ({"STTR_SERVER_WORKERS": "0"}, "STTR_SERVER_WORKERS='0': expected an integer of 1 or more"),
        ({"STTR_SERVER_TIMEOUT": "0s"}, "STTR_SERVER_TIMEOUT='0s': expected a duration longer than 0s, such as"),
    ],
)
def test_what_can_not_work_is_a_mistake(variables: dict[str, str], expected: str) -> None:
    with pytest.raises(ConfigError) as error:
        decode(Config, "STTR", variables)
    (line,) = error.value.problems
    assert expected in line


def test_a_setting_of_a_type_that_no_text_can_give_is_an_error_of_ours() -> None:
    @frozen
    class Odd:
        number: complex = setting(0j, desc="no text is read as this")

    with pytest.raises(KeyError):
        decode(Odd, "ODD", {"ODD_NUMBER": "1"})


def test_secrets_are_equal_by_their_texts(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cr3t")
    others: list[Any] = [Secret("other"), "s3cr3t", None]
    assert Secret("s3cr3t") == Secret.from_file(tmp_path / "key")
    assert Secret("s3cr3t") not in others
