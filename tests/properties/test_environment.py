"""Environment to Config and back."""

from attrs import asdict
from hypothesis import given

from stator.config import Config
from stator.settings.declare import ConfigError, iter_settings
from stator.settings.environment import unknown_variables
from tests.decoding import decode
from tests.properties.configs import configs, environments, written


@given(configs())
def test_a_config_comes_back_from_the_environment_that_it_is_written_as(config: Config) -> None:
    assert asdict(decode(Config, "STTR", written(config))) == asdict(config)


@given(configs())
def test_an_environment_that_was_written_is_written_the_same_again(config: Config) -> None:
    variables = written(config)
    assert written(decode(Config, "STTR", variables)) == variables
    assert unknown_variables(iter_settings(Config, "STTR"), "STTR", variables) == []


@given(environments())
def test_any_environment_gives_a_config_or_a_line_for_each_mistake(environment: dict[str, str]) -> None:
    try:
        config = decode(Config, "STTR", environment)
    except ConfigError as error:
        lines = error.problems
    else:
        variables = written(config)
        assert written(decode(Config, "STTR", variables)) == variables
        lines = []
    assert all(line.startswith("STTR_") and ": expected " in line for line in lines)
