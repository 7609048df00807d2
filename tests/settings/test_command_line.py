"""The command line, and the sources of variables."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import json

from stator import __version__
from stator.config import Config, Environment
from stator.settings import command_line
from tests.settings.conftest import Answer, RunFlags

ROOT = Path(__file__).resolve().parents[2]


def loaded(*argv: str, **environ: str) -> command_line.Loaded[Config]:
    return command_line.load(Environment.of, prefix="STTR", about="about", version="1", argv=argv, environ=environ)


def port_of(file: Path, text: str, **environ: str) -> int:
    file.write_text(text)
    return loaded("-e", str(file), **environ).config.server.port


def in_shell(command: str) -> Answer:
    """Runs a shell's command, in which ``stator`` is the program."""
    stator = f'stator() {{ "{sys.executable}" -m stator "$@"; }}; '
    done = subprocess.run(
        ["sh", "-c", stator + command], cwd=ROOT, capture_output=True, text=True, check=False, timeout=30
    )
    return Answer(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_goes_to_stdout(run_flags: RunFlags, flag: str) -> None:
    answer = run_flags(flag)
    assert (answer.status, answer.err) == (0, "")
    assert "STTR_SERVER_PORT" in answer.out
    for each in ("--help", "--conf", "--check", "--env-file FILE", "--version"):
        assert each in answer.out


def test_help_is_there_for_one_whose_environment_is_wrong(run_flags: RunFlags) -> None:
    assert run_flags("-h", env={"STTR_SERVER_PORT": "x"}).status == 0


@pytest.mark.parametrize("argv", [("-h", "--bogus"), ("run", "-h"), ("-h", "-e", "nowhere.env")])
def test_help_is_there_for_one_whose_command_line_is_wrong(run_flags: RunFlags, argv: tuple[str, ...]) -> None:
    answer = run_flags(*argv)
    assert (answer.status, answer.err) == (0, "")
    assert "STTR_SERVER_PORT" in answer.out


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_version_is_one_line(run_flags: RunFlags, flag: str) -> None:
    assert run_flags(flag) == Answer(0, f"stator {__version__}\n", "")


@pytest.mark.parametrize("flag", ["-c", "--conf"])
def test_conf_is_json_and_nothing_else(run_flags: RunFlags, flag: str) -> None:
    answer = run_flags(flag, env={"STTR_SERVER_PORT": "1234", "STTR_CLIENT_USER": "me", "STTR_CLIENT_PASS": "s3cr3t"})
    config: dict[str, Any] = json.decode(answer.out)
    assert (answer.status, answer.err) == (0, "")
    assert config["version"] == __version__
    assert (config["server"]["port"], config["server"]["timeout"]) == (1234, "10s")
    assert config["client"]["password"] == "--redacted--"


def test_check_says_nothing_when_all_is_well(run_flags: RunFlags) -> None:
    assert run_flags("--check") == Answer(0, "", "")


@pytest.mark.parametrize("argv", [(), ("--check",), ("-c",)])
def test_every_mistake_has_a_line_of_its_own_and_nothing_starts(run_flags: RunFlags, argv: tuple[str, ...]) -> None:
    env = {"STTR_SERVER_PORT": "http", "STTR_LOGGER_LEVEL": "loud", "STTR_ROSTER_REGISTRAR": "consul"}
    assert run_flags(*argv, env=env) == Answer(
        2,
        "",
        "stator: STTR_LOGGER_LEVEL='loud': expected one of debug, info, warning, error\n"
        "stator: STTR_SERVER_PORT='http': expected an integer from 0 to 65535\n"
        "stator: STTR_CLIENT_BASEURI: expected a URI such as http://localhost:8500, since STTR_ROSTER_REGISTRAR is"
        " consul\n",
    )


def test_a_name_that_nothing_reads_is_listed_beside_mistakes(run_flags: RunFlags) -> None:
    answer = run_flags(env={"STTR_SERVER_PORT": "http", "STTR_LOGGER_LVL": "debug"})
    assert answer.status == 2
    assert "stator: warning: STTR_LOGGER_LVL is not a setting" in answer.err


@pytest.mark.parametrize("flag", ["-c", "--check"])
def test_a_name_that_nothing_reads_is_a_warning_and_no_more(run_flags: RunFlags, flag: str) -> None:
    answer = run_flags(flag, env={"STTR_LOGGER_LVL": "debug"})
    assert answer.status == 0
    assert answer.err == (
        "stator: warning: STTR_LOGGER_LVL is not a setting and is not read; the nearest that is: STTR_LOGGER_LEVEL\n"
    )


def test_a_start_keeps_the_warnings_for_the_log() -> None:
    (warning,) = loaded(STTR_LOGGER_LVL="debug").warnings
    assert "STTR_LOGGER_LEVEL" in warning


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("--bogus",), "stator: unrecognized arguments: --bogus; -h shows what there is\n"),
        (("run",), "stator: unrecognized arguments: run; -h shows what there is\n"),
        (("--env",), "stator: unrecognized arguments: --env; -h shows what there is\n"),
        (("-e",), "stator: argument -e/--env-file: expected one argument; -h shows what there is\n"),
    ],
)
def test_a_flag_that_is_not_ours_is_refused(run_flags: RunFlags, argv: tuple[str, ...], message: str) -> None:
    assert run_flags(*argv) == Answer(2, "", message)


@pytest.mark.parametrize(
    "text",
    [
        "STTR_SERVER_PORT=1234",
        "export STTR_SERVER_PORT=1234",
        "STTR_SERVER_PORT = 1234 # of mine",
        "STTR_SERVER_PORT='1234'",
        'STTR_SERVER_PORT="1234"',
        "# STTR_SERVER_PORT=1\n\n  STTR_SERVER_PORT=1234\r\n",
        "\ufeffSTTR_SERVER_PORT=1234",
        "STTR_SERVER_PORT=1\nSTTR_SERVER_PORT=1234",
    ],
)
def test_an_env_file_is_read_in_its_many_forms(tmp_path: Path, text: str) -> None:
    assert port_of(tmp_path / "stator.env", text) == 1234


def test_quotes_in_an_env_file_keep_what_they_hold(tmp_path: Path) -> None:
    file = tmp_path / "stator.env"
    file.write_text('STTR_CLIENT_USER=\'a # $HOME "b"\'\nSTTR_ROSTER_SERVICE_NAME=" c \\"d\\" "\n')
    config = loaded("--env-file", str(file)).config
    assert (config.client.user, config.roster.service.name) == ('a # $HOME "b"', ' c "d" ')


def test_the_environment_wins_over_the_env_file(tmp_path: Path) -> None:
    assert port_of(tmp_path / "stator.env", "STTR_SERVER_PORT=1", STTR_SERVER_PORT="1234") == 1234


def test_names_in_an_env_file_that_nothing_reads_are_warned_of(tmp_path: Path) -> None:
    (tmp_path / "stator.env").write_text("STTR_SERVER_PRT=1")
    assert len(loaded("-e", str(tmp_path / "stator.env")).warnings) == 1


@pytest.mark.parametrize("value", ['"metrics,blue"', "'metrics'", '""'])
def test_quotes_around_a_value_of_the_environment_are_warned_of(run_flags: RunFlags, value: str) -> None:
    warning = "STTR_ROSTER_SERVICE_TAGS begins and ends with a quote, which counts as part of the value"
    (line,) = loaded(STTR_ROSTER_SERVICE_TAGS=value).warnings
    assert line.startswith(warning)
    assert run_flags("--check", env={"STTR_ROSTER_SERVICE_TAGS": value}).err.startswith(f"stator: warning: {warning}")


@pytest.mark.parametrize("value", ['5" disk', '"', "a'", "\"a'"])
def test_a_quote_within_a_value_is_not_warned_of(value: str) -> None:
    assert loaded(STTR_ROSTER_SERVICE_TAGS=value, OTHER='"x"').warnings == []


def test_a_quoted_secret_is_warned_of_without_its_value(run_flags: RunFlags) -> None:
    err = run_flags("--check", env={"STTR_CLIENT_USER": "me", "STTR_CLIENT_PASS": "'hunter2'"}).err
    assert "STTR_CLIENT_PASS begins and ends with a quote" in err
    assert "hunter2" not in err


def test_bad_lines_of_an_env_file_are_named_by_number_and_not_quoted(run_flags: RunFlags, tmp_path: Path) -> None:
    file = tmp_path / "stator.env"
    file.write_text("# mine\nSTTR_SERVER_PORT=1\nhunter2\n=hunter2\nSTTR_CLIENT_USER='hunter2\nSTTR_FILE_PATH=a\0b\n")
    numbers = re.findall(
        rf"^stator: --env-file '{file}', line (\d+): expected NAME=value$", run_flags("-e", str(file)).err, re.MULTILINE
    )
    assert numbers == ["3", "4", "5", "6"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nowhere.env", "No such file or directory"), ("", "Is a directory"), ("latin-1.env", "not UTF-8")],
)
def test_an_env_file_that_can_not_be_read_is_named(run_flags: RunFlags, tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "latin-1.env").write_bytes(b"STTR_ROSTER_SERVICE_NAME=k\xe4fer\n")
    file = tmp_path / name
    assert run_flags("-e", str(file)) == Answer(
        2, "", f"stator: --env-file '{file}': expected a readable file ({reason})\n"
    )


def test_an_env_file_without_a_name_is_no_slip_to_pass_over(run_flags: RunFlags) -> None:
    assert run_flags("-e", "", "--check").status == 2


def test_a_start_has_the_loaded_configuration_without_secrets() -> None:
    start = loaded(STTR_CONSUL_TOKEN="s3cr3t", STTR_SERVER_PORT="1234")
    assert start.redacted["version"] == "1"
    assert start.redacted["server"]["port"] == 1234
    assert start.redacted["consul"]["token"] == "--redacted--"
    assert start.config.consul.token.reveal() == "s3cr3t"


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("STTR_SERVER_PORT=x stator", 2, "stator: STTR_SERVER_PORT='x': expected an integer from 0 to 65535\n"),
        ("STTR_ROSTER_SERVICE_NAME=$(printf '\\377') stator -c", 2, "expected text in UTF-8"),
        ("stator -c >/dev/full", 1, "stator: can't write to stdout: No space left on device\n"),
        ("stator -h >/dev/full", 1, "stator: can't write to stdout: No space left on device\n"),
        ("stator --bogus 2>&-", 2, ""),
    ],
)
def test_a_shell_gets_a_status_and_no_traceback(command: str, status: int, message: str) -> None:
    answer = in_shell(command)
    assert (answer.status, answer.out) == (status, "")
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_conf_with_stdout_closed_ends_without_a_traceback() -> None:
    assert "Traceback" not in in_shell("stator -c >&-").err


def test_help_imports_nothing_that_only_a_running_service_needs() -> None:
    slow = ("falcon", "gunicorn", "structlog", "urllib3", "psutil", "cattrs", "environs")
    code = (
        "import sys; from stator.main import main\n"
        "try: main(['-h'], {})\n"
        f"except SystemExit: sys.exit(' '.join(set({slow!r}) & set(sys.modules)) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
