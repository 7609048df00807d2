"""Plugins: where they are found, how their settings are named, and which errors bad ones cause."""

import os
import sys
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest

from stator.config import Config, Environment
from stator.log.logger import LoggerConfig
from stator.log.writer import Sink
from stator.points import CollectorContext
from stator.processes.service import ServiceProcesses
from stator.settings.declare import ConfigError
from stator.settings.environment import unknown_variables

JOBS = """\
from __future__ import annotations
from attrs import frozen
from stator import Duration, Point, PointsAt, Secret, at_least, setting

@frozen
class QueueDepth:
    @frozen
    class Config:
        folder: str = setting("/jobs", desc="where jobs wait")
        max_age: int = setting(5, desc="age of the oldest", check=at_least(1))
        weight: float = setting(1, desc="of a job")
        password: Secret = setting(Secret(), desc="to look inside")

    config: Config

    def collect(self, now):
        return PointsAt(self.config.folder, now, points=[Point("depth", "", self.config.weight)])
"""
PLAIN = """\
from stator import PointsAt

class Plain:
    def collect(self, now):
        return PointsAt("plain", now)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    """A working folder, with the folder of plugins in it; nothing that is imported is left behind."""
    (tmp_path / "plugins").mkdir()
    modules, path = set(sys.modules), list(sys.path)
    with chdir(tmp_path):
        yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def write(name: str, code: str) -> None:
    Path("plugins", name).write_text(code)


def install(name: str, code: str, *entry_points: str, group: str = "stator.collectors") -> None:
    """Puts a package with entry points into a folder on the search path."""
    about = Path("site", f"{name}-1.0.dist-info")
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("\n".join([f"[{group}]", *entry_points]))
    Path("site", f"{name}.py").write_text(code)
    sys.path.append(str(Path("site").absolute()))


def environment(chosen: str, **variables: str) -> Environment:
    named = {f"STTR_{name}": value for name, value in variables.items()}
    return Environment.of("STTR", {"STTR_COLLECTORS": chosen, "STTR_PLUGINS_PATH": "plugins", **named})


def configured(chosen: str, **variables: str) -> Config:
    return environment(chosen, **variables).decode()


def keys(environment: Environment) -> list[str]:
    return [each.name for each in environment.settings()]


def collectors(config: Config) -> dict[str, Any]:
    with Path(os.devnull).open("wb") as nowhere:
        log = LoggerConfig().build(Sink(nowhere.fileno()), terminal=False)
        return config.collectors.build(CollectorContext("stator", "I90Ltn4", ServiceProcesses(), log))


def problems(chosen: str, **variables: str) -> list[str]:
    with pytest.raises(ConfigError) as error:
        configured(chosen, **variables)
    return error.value.problems


def reason(chosen: str, **variables: str) -> str:
    """Why a name gives no plugin, out of the only line."""
    (line,) = problems(chosen, **variables)
    return line.partition(": expected ")[2].partition("; ")[2]


def settings(chosen: str) -> list[str]:
    """Variables of the plugins."""
    usual = keys(Environment.of("STTR", {}))
    return [key for key in keys(environment(chosen)) if key not in usual]


def test_a_file_of_the_folder_collects_with_its_settings() -> None:
    write("queue_depth.py", JOBS)
    config = configured("queue_depth", QUEUE_DEPTH_FOLDER="mail", QUEUE_DEPTH_WEIGHT="2.5")
    points_at = collectors(config)["queue_depth"].collect(1.5)
    assert (points_at.name, points_at.points[0].value) == ("mail", 2.5)


def test_a_file_without_settings_collects() -> None:
    write("plain.py", PLAIN)
    assert collectors(configured("plain"))["plain"].collect(0.0).name == "plain"


def test_a_file_may_be_called_as_one_of_pythons_modules() -> None:
    write("queue.py", PLAIN)
    assert collectors(configured("queue"))["queue"].collect(0.0).name == "plain"


@pytest.mark.parametrize(("stem", "variable"), [("Queue-Depth", "QUEUE_DEPTH"), ("käfer", "KÄFER"), ("a.b", "A_B")])
def test_a_file_may_be_called_as_no_module_can_be(stem: str, variable: str) -> None:
    write(f"{stem}.py", JOBS)
    assert settings(stem)[0] == f"STTR_{variable}_FOLDER"
    assert collectors(configured(stem))[stem].collect(0.0).name == "/jobs"


@pytest.mark.parametrize("stem", ["class", "9lives"])
def test_a_file_that_can_not_name_its_settings_is_refused(stem: str) -> None:
    write(f"{stem}.py", JOBS)
    assert reason(stem) == f"{stem} can't have settings: '{stem}' is no name in Python"


def test_a_file_may_import_another_of_its_folder() -> None:
    write("_shared.py", "from stator import PointsAt")
    write("plain.py", PLAIN.replace("from stator", "from _shared"))
    assert collectors(configured("plain"))["plain"].collect(0.0).name == "plain"


def test_a_file_that_is_not_named_is_not_run() -> None:
    write("failing.py", "1 / 0")
    assert list(collectors(configured("wave"))) == ["wave"]


def test_one_of_several_in_a_file_is_named_with_its_class() -> None:
    write("pair.py", PLAIN + PLAIN.replace("class Plain", "class Other"))
    end = "/plugins/pair.py has several collectors: name those that are to run as pair:Plain, pair:Other"
    assert reason("pair").endswith(end)
    assert list(collectors(configured("pair:Other"))) == ["pair:Other"]


def test_classes_that_are_imported_or_begin_with_an_underscore_do_not_count() -> None:
    base = "from stator.collectors.wave import Wave\nclass _Base:\n    def collect(self, now): ...\n"
    write("plain.py", base + PLAIN)
    assert list(collectors(configured("plain"))) == ["plain"]


def test_an_installed_package_collects_with_its_settings() -> None:
    install("jobs", JOBS, "job-queue = jobs:QueueDepth")
    config = configured("job-queue", JOB_QUEUE_FOLDER="mail")
    assert collectors(config)["job-queue"].collect(1.5).name == "mail"


def test_a_class_collects_with_its_settings() -> None:
    Path("jobs.py").write_text(JOBS)
    config = configured("jobs:QueueDepth", QUEUE_DEPTH_FOLDER="mail")
    assert collectors(config)["jobs:QueueDepth"].collect(1.5).name == "mail"


@pytest.mark.parametrize(
    ("class_name", "variable"),
    [("QueueDepth", "QUEUE_DEPTH"), ("HTTPQueue", "HTTP_QUEUE"), ("queue", "QUEUE"), ("_Queue2Go", "QUEUE2_GO")],
)
def test_a_class_gives_its_settings_its_name_in_words(class_name: str, variable: str) -> None:
    Path("jobs.py").write_text(JOBS.replace("QueueDepth", class_name))
    assert settings(f"jobs:{class_name}")[0] == f"STTR_{variable}_FOLDER"


def test_settings_of_plugins_stand_beside_those_of_collectors() -> None:
    write("queue_depth.py", JOBS)
    names = ["FOLDER", "MAXAGE", "WEIGHT", "PASSWORD"]
    assert settings("queue_depth") == [f"STTR_QUEUE_DEPTH_{name}" for name in names]
    order = keys(environment("queue_depth"))
    assert order.index("STTR_WAVE_SEED") < order.index("STTR_QUEUE_DEPTH_FOLDER") < order.index("STTR_SERVER_PORT")


def test_secrets_of_plugins_are_hidden() -> None:
    write("queue_depth.py", JOBS)
    chosen = environment("queue_depth", QUEUE_DEPTH_PASSWORD="s3cr3t")
    assert chosen.dump(chosen.decode())["collectors"]["plugins"]["queue_depth"]["password"] == "--redacted--"


def test_two_plugins_have_settings_each() -> None:
    write("mail.py", JOBS)
    write("print.py", JOBS)
    config = configured("mail,print", MAIL_FOLDER="/mail", PRINT_FOLDER="/print")
    assert [each.collect(0.0).name for each in collectors(config).values()] == ["/mail", "/print"]


def test_a_wrong_setting_of_a_plugin_is_listed_with_all_other_mistakes() -> None:
    write("queue_depth.py", JOBS)
    assert problems("queue_depth,sun", QUEUE_DEPTH_MAXAGE="0", SERVER_PORT="x") == [
        "STTR_QUEUE_DEPTH_MAXAGE='0': expected an integer of 1 or more",
        "STTR_SERVER_PORT='x': expected an integer from 0 to 65535",
        (
            "STTR_COLLECTORS='queue_depth,sun': expected names out of runtime, diskusage, wave, process, host,"
            " textfile, prometheus_client, scrape, queue_depth, or"
            " module:Class; there is no 'sun'"
        ),
    ]


@pytest.mark.parametrize("number", ["much", "nan", "-inf"])
def test_a_number_is_a_finite_one(number: str) -> None:
    write("queue_depth.py", JOBS)
    line = f"STTR_QUEUE_DEPTH_WEIGHT='{number}': expected a number"
    assert problems("queue_depth", QUEUE_DEPTH_WEIGHT=number) == [line]


def test_a_folder_that_is_missing_is_named() -> None:
    line = "STTR_PLUGINS_PATH='nowhere': expected a readable folder (No such file or directory)"
    assert line in problems("wave", PLUGINS_PATH="nowhere")
    assert line in problems("sun", PLUGINS_PATH="nowhere")


@pytest.mark.parametrize(
    ("code", "cause"),
    [
        ("x = 1\n1 / 0", "can't be imported: ZeroDivisionError: division by zero (failing.py, line 2)"),
        ("raise OSError('one\\ntwo')", "can't be imported: OSError: one two (failing.py, line 1)"),
        ("import nothing_like_it", "can't be imported: ModuleNotFoundError: No module named 'nothing_like_it'"),
        ("raise SystemExit('a script')", "can't be imported: SystemExit: a script"),
        ("def", "can't be imported: SyntaxError: "),
        ("x = 1", "has no collector: no class with a method collect(now)"),
    ],
)
def test_a_file_that_is_no_plugin_is_named_with_the_reason(folder: Path, code: str, cause: str) -> None:
    write("failing.py", code)
    file = f"{folder}/plugins/failing.py"
    assert reason("failing").startswith(f"{file} {cause}")
    (line,) = problems("failing")
    assert line.startswith(f"STTR_COLLECTORS='failing': expected collectors that can be loaded; {file}")


@pytest.mark.parametrize(
    ("old", "new", "cause"),
    [
        ("    @frozen\n", "", "Config must be an attrs class: put @attrs.frozen above it"),
        ('folder: str = setting("/jobs", desc="where jobs wait")', "folder: str = '/jobs'", "Config.folder must be"),
        ("max_age: int", "max_age: list[int]", "Config.max_age can't be a list[int] with the default 5; what a"),
        ("max_age: int", "max_age: Nothing", "the types of its Config can't be found: name 'Nothing' is not defined"),
        ("max_age: int", "max_age: Duration", "Config.max_age is to be a Duration, which its default 5 is not"),
        ("setting(5,", "setting(0,", "Config.max_age is to be an integer of 1 or more, which its default 0 is not"),
    ],
)
def test_an_invalid_config_is_named_with_its_plugin(old: str, new: str, cause: str) -> None:
    assert old in JOBS
    write("queue_depth.py", JOBS.replace(old, new))
    assert reason("queue_depth").startswith(f"queue_depth: {cause}")


def test_a_value_on_which_a_constraint_fails_is_refused() -> None:
    check = 'check=stator.Constraint("a URL of jobs", lambda url: int(url.split("/")[1]) >= 0)'
    write(
        "queue_depth.py", JOBS.replace("from attrs", "import stator\nfrom attrs").replace('wait")', f'wait", {check})')
    )
    assert reason("queue_depth") == (
        "queue_depth: Config.folder is to be a URL of jobs, which its default '/jobs' is not"
    )
    write("queue_depth.py", Path("plugins/queue_depth.py").read_text().replace('"/jobs"', '"/7"'))
    for wrong in ("/mail", "7"):
        line = f"STTR_QUEUE_DEPTH_FOLDER='{wrong}': expected a URL of jobs"
        assert problems("queue_depth", QUEUE_DEPTH_FOLDER=wrong) == [line]


def test_a_rule_that_the_defaults_break_is_named_with_the_plugin() -> None:
    rule = "        def __attrs_post_init__(self):\n            raise ValueError('not all jobs')\n"
    write("queue_depth.py", JOBS.replace("    config: Config\n", rule + "    config: Config\n"))
    assert reason("queue_depth") == "queue_depth: its Config can't have its defaults: ValueError: not all jobs"


def test_the_types_of_settings_are_listed_as_they_are_written() -> None:
    write("queue_depth.py", JOBS.replace("max_age: int", "max_age: list[int]"))
    types = "int, float, bool, str, Secret, Duration, tuple[str, ...], tuple[float, ...], tuple[tuple[str, str], ...]"
    assert reason("queue_depth").endswith(f"what a setting can be: {types}")


def test_the_error_of_a_configs_own_rule_is_quoted() -> None:
    rule = (
        "        def __attrs_post_init__(self):\n            if self.folder == '/': raise ValueError('not all jobs')\n"
    )
    write("queue_depth.py", JOBS.replace("    config: Config\n", rule + "    config: Config\n"))
    (line,) = problems("queue_depth", QUEUE_DEPTH_FOLDER="/")
    assert "ValueError: not all jobs" in line
    assert "STTR_QUEUE_DEPTH" in line


def test_a_file_and_a_package_of_one_name_are_refused(folder: Path) -> None:
    write("jobs.py", JOBS)
    install("of_the_user", JOBS, "jobs = of_the_user:QueueDepth")
    both = f"{folder}/plugins/jobs.py or of_the_user:QueueDepth of the package of_the_user"
    assert reason("jobs") == f"'jobs' may be {both}: there must be one"


def test_a_file_called_as_a_built_in_collector_is_refused() -> None:
    write("wave.py", PLAIN)
    (line,) = problems("wave")
    assert line == "STTR_PLUGINS_PATH='plugins': expected no file to be called as a built-in collector: wave.py"


def test_two_plugins_that_call_their_settings_alike_are_refused() -> None:
    write("queue_depth.py", JOBS)
    clash = "queue_depth:QueueDepth and queue_depth both call their settings QUEUE_DEPTH: rename one of them"
    assert reason("queue_depth,queue_depth:QueueDepth") == clash


@pytest.mark.parametrize(
    ("name", "field", "taken"),
    [
        ("server", "port", "STTR_SERVER_PORT"),
        ("roster_service", "name", "STTR_ROSTER_SERVICE_NAME"),
        ("client_pass", "file", "STTR_CLIENT_PASS_FILE"),
    ],
)
def test_a_variable_that_is_a_setting_already_is_refused(name: str, field: str, taken: str) -> None:
    write(f"{name}.py", JOBS.replace("folder", field))
    assert reason(name) == f"{name} can't have a setting {taken}: there is one already"


def test_nothing_is_imported_where_only_built_in_collectors_run() -> None:
    write("failing.py", "1 / 0")
    for variables in ({}, {"STTR_PLUGINS_PATH": "plugins"}, {"STTR_COLLECTORS": "wave,runtime"}):
        plugins = Environment.of("STTR", variables).collectors
        assert (plugins.found, plugins.failures) == ({}, [])


TELEGRAM = """\
from attrs import frozen
from stator import setting

@frozen
class Telegram:
    @frozen
    class Config:
        office: str = setting("", desc="where to send it")

    config: Config

    def register(self, service, *, keep_checks=True, level="info"): ...
    def unregister(self, service, *, timeout=None): ...
    def observe(self, service, *, since="", wait=0.0): ...
    def cancel(self): ...
    def close(self): ...
"""


def test_an_installed_registrar_registers_with_its_settings() -> None:
    install("wires", TELEGRAM, "telegram = wires:Telegram", group="stator.registrars")
    chosen = environment("wave", ROSTER_REGISTRAR="telegram", TELEGRAM_OFFICE="Bern")
    config = chosen.decode()
    assert unknown_variables(chosen.settings(), "STTR", chosen.variables) == []
    assert config.registrar(None).config.office == "Bern"  # type: ignore[arg-type, union-attr] # it needs no log
    assert chosen.dump(config)["roster"]["plugins"] == {"telegram": {"office": "Bern"}}


@pytest.mark.parametrize("method", ["unregister", "observe", "cancel", "close"])
def test_a_registrar_needs_all_methods(method: str) -> None:
    install(
        "wires",
        TELEGRAM.replace(f"def {method}(", "def other("),
        "telegram = wires:Telegram",
        group="stator.registrars",
    )
    (line,) = problems("wave", ROSTER_REGISTRAR="telegram")
    assert f"wires:Telegram is no registrar: it has no method {method}(" in line


def test_an_installed_class_that_can_not_register_is_refused() -> None:
    install("plain", PLAIN, "telegram = plain:Plain", group="stator.registrars")
    (line,) = problems("wave", ROSTER_REGISTRAR="telegram")
    assert line == (
        "STTR_ROSTER_REGISTRAR='telegram': expected one of auto, consul, file, none, or an installed registrar;"
        " plain:Plain is no registrar: it has no method register(service)"
    )
