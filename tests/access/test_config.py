from pathlib import Path

import pytest

from stator.access.config import AccessConfig
from stator.access.requests import Request
from stator.config import Environment
from stator.settings import watched
from stator.settings.declare import ConfigError
from tests.captured_log import CapturedLog
from tests.credentials import HASH, OTHER_TOKEN, TOKEN, USERS, basic, bearer, write_private


def config(**variables: str) -> AccessConfig:
    named = {f"STTR_SERVER_{name}": value for name, value in variables.items()}
    return Environment.of("STTR", named).decode().server.access


def problem(**variables: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config(**variables)
    (line,) = caught.value.problems
    return line


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("geheim", "name:hash in line 1, with a hash of bcrypt as htpasswd -B writes it"),
        (f"# people\n\nprom:{HASH}\nmd5:$apr1$geheim$x\n", "name:hash in line 4, with a hash of bcrypt"),
        (f"prom:{HASH[:-1]}\n", "name:hash in line 1"),
        (f":{HASH}\n", "name:hash in line 1"),
        (f"prom:{HASH.replace('$04', '$32')}\n", "name:hash in line 1"),
        (f"prom:{HASH.replace('$2y', '$2x')}\n", "name:hash in line 1"),
        (USERS + f"prom:{HASH}\n", "another name in line 3, since a line before has this one"),
        ("", "a line name:hash for each user, and there is none"),
        ("# geheim\n", "a line name:hash for each user, and there is none"),
        ("x" * (1 << 20) + "\n", "a file of at most 1048576 bytes"),
    ],
)
def test_a_wrong_users_file_is_a_problem_with_its_line_and_without_its_content(
    tmp_path: Path, text: str, expected: str
) -> None:
    file = write_private(tmp_path / "users", text)
    line = problem(USERSFILE=str(file))
    assert line.startswith(f"STTR_SERVER_USERSFILE={str(file)!r}: expected {expected}")
    assert "geheim" not in line


def test_what_is_no_path_and_no_endpoint_are_problems() -> None:
    line = problem(OPENPATHS="/monitor,monitor/live")
    assert line.endswith("expected paths that begin with a slash, not monitor/live")
    assert problem(ENDPOINTS=",").endswith("expected one at least of metrics, monitor, config, status")


def test_without_monitor_those_who_check_the_service_are_warned() -> None:
    (line,) = config(ENDPOINTS="metrics").warnings()
    assert "leaves out monitor" in line


def test_a_file_that_is_not_utf_8_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "users").write_bytes(f"prom:{HASH}\n".encode() + b"gehe\xffim:x\n")
    line = problem(USERSFILE=str(tmp_path / "users"))
    assert line.endswith("expected UTF-8 in line 2")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{TOKEN}\ngeheim token\n", "one token in line 2, of ASCII without spaces"),
        ("gehéim\n", "one token in line 1"),
        ("\n# geheim\n\n", "a token in each line, and there is none"),
    ],
)
def test_a_wrong_tokens_file_is_a_problem_too(tmp_path: Path, text: str, expected: str) -> None:
    line = problem(TOKENSFILE=str(write_private(tmp_path / "tokens", text)))
    assert f"expected {expected}" in line
    assert "geh" not in line


def test_a_file_that_can_not_be_read_is_a_problem(tmp_path: Path) -> None:
    assert "expected a readable file (No such file or directory)" in problem(USERSFILE=str(tmp_path / "none"))
    assert "expected a regular file" in problem(TOKENSFILE=str(tmp_path))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("ALLOW", "10.0.0.1/8", "addresses and networks such as 10.0.0.5"),
        ("TRUSTEDPROXIES", "nginx", "addresses and networks such as 10.0.0.5"),
        ("ENDPOINTS", "metrics,admin", "some of metrics, monitor, config, status"),
    ],
)
def test_what_is_no_network_or_endpoint_is_a_problem(name: str, text: str, expected: str) -> None:
    assert f"expected {expected}" in problem(**{name: text})


def test_warns_of_files_that_others_read_of_slow_hashes_and_of_short_tokens(tmp_path: Path) -> None:
    users, tokens = tmp_path / "users", write_private(tmp_path / "tokens", f"{TOKEN}\n# short\nshort\n")
    users.write_text(USERS)
    users.chmod(0o644)
    assert list(config(USERSFILE=str(users), TOKENSFILE=str(tokens)).warnings()) == [
        f"{users} can be read by all users of this host (mode 644): chmod o-r",
        f"{tokens}, line 3: a token of fewer than 16 characters may be guessed",
    ]
    users.chmod(0o640)
    assert list(config(USERSFILE=str(users)).warnings()) == []
    write_private(users, f"{USERS}slow:{HASH.replace('$04', '$15')}\n")
    assert list(config(USERSFILE=str(users)).warnings()) == [
        f"{users}, line 3: a hash of cost 15 takes seconds, and one is checked at a time"
    ]


def test_there_is_no_guard_where_all_may_ask_for_all(tmp_path: Path) -> None:
    with CapturedLog(tmp_path / "log") as story:
        assert config().build(story.log) is None
        assert config(TRUSTEDPROXIES="10.0.0.1", OPENPATHS="").build(story.log) is None
        assert config(ALLOW="10.0.0.1").build(story.log) is not None
        assert config(ENDPOINTS="monitor").build(story.log) is not None


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    users, tokens = write_private(tmp_path / "users", USERS), write_private(tmp_path / "tokens", TOKEN)
    with CapturedLog(tmp_path / "log") as story:
        guard = config(USERSFILE=str(users), TOKENSFILE=str(tokens)).build(story.log)
        assert guard is not None

        def status(headers: dict[str, str]) -> int:
            request = Request("127.0.0.1", "/metrics", headers["Authorization"])
            return (guard.decide(request) or guard.decide_by_hashing(request)).status

        assert [status(each) for each in (basic(), bearer(), bearer(OTHER_TOKEN))] == [0, 0, 401]
        write_private(users, f"prom:{HASH[:-2]}\n")
        write_private(tokens, OTHER_TOKEN)
        watched.read_all_again()
        assert [status(each) for each in (basic(), bearer(), bearer(OTHER_TOKEN))] == [0, 401, 0]
        write_private(users, f"someone:{HASH}\n")
        watched.read_all_again()
        assert [status(each) for each in (basic(), basic("someone"))] == [401, 0]
