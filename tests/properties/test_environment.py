"""Environment to Config and back."""

from hypothesis import given

from stator.config import Config
from stator.settings.environment import ConfigError, decode, encode, unread
from tests.properties.configs import configs, environments


@given(configs())
def test_a_config_comes_back_from_the_environment_that_it_is_written_as(config: Config) -> None:
    assert decode(Config, "STTR", encode(config, "STTR")) == config


@given(configs())
def test_an_environment_that_was_written_is_written_the_same_again(config: Config) -> None:
    written = encode(config, "STTR")
    assert encode(decode(Config, "STTR", written), "STTR") == written
    assert unread(Config, "STTR", written) == []


@given(environments())
def test_any_environment_gives_a_config_or_a_line_for_each_mistake(environment: dict[str, str]) -> None:
    try:
        config = decode(Config, "STTR", environment)
    except ConfigError as error:
        lines = error.problems
    else:
        written = encode(config, "STTR")
        assert encode(decode(Config, "STTR", written), "STTR") == written
        lines = []
    assert all(line.startswith("STTR_") and ": expected " in line for line in lines)
