"""The program with a web configuration file, which changes while it runs."""

import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPSConnection
from itertools import count
from pathlib import Path

import pytest

from stator.access.files import ContentError
from stator.server.web_config import has_tls
from tests.certificates import DAY, Authority, Certificate
from tests.credentials import (
    HASH,
    OTHER_HASH,
    OTHER_PASSWORD,
    PASSWORD,
    basic,
    bearer,
    settings,
    write_private,
)
from tests.program import ROOT, Answer, Program, eventually
from tests.server.conftest import Starts

USERS = f"basic_auth_users: {{prom: {HASH}}}\n"
OTHER_USERS = f"basic_auth_users: {{other: {OTHER_HASH}}}\n"
ONCE = "rate_limit: {interval: 1h, burst: 5}\n"


@pytest.fixture
def web(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Writes a file, and returns the setting."""

    def write(text: str) -> dict[str, str]:
        return {"STTR_SERVER_WEBCONFIG": str(write_private(tmp_path / "web.yml", text)), "STTR_COLLECTORS": "wave"}

    return write


Write = Callable[[str], dict[str, str]]


def tls(certificate: Certificate, more: str = "") -> str:
    return f"tls_server_config:\n  cert_file: {certificate.cert}\n  key_file: {certificate.key}\n{more}"


def inline(certificate: Certificate) -> str:
    texts = {name: path.read_text().splitlines() for name, path in certificate._asdict().items()}
    blocks = (f"  {name}: |\n" + "".join(f"    {line}\n" for line in lines) for name, lines in texts.items())
    return "tls_server_config:\n" + "".join(blocks)


def trusting(authority: Authority, own: Certificate | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.cert)
    if own:
        context.load_cert_chain(own.cert, own.key)
    return context


# Whoever fails too often has to wait.
ADDRESSES = (f"127.0.{number // 200 % 200}.{1 + number % 200}" for number in count(200))


def ask(program: Program, context: ssl.SSLContext | None, headers: dict[str, str] | None = None) -> Answer:
    """Asks on a connection from an address of its own."""
    connection: HTTPConnection
    if context:
        connection = HTTPSConnection(
            "127.0.0.1", program.port, timeout=10, source_address=(next(ADDRESSES), 0), context=context
        )
    else:
        connection = HTTPConnection("127.0.0.1", program.port, timeout=10, source_address=(next(ADDRESSES), 0))
    try:
        connection.request("GET", "/metrics", headers=headers or {})
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def serial(program: Program, authority: Authority) -> object:
    with trusting(authority).wrap_socket(program.dial(), server_hostname="127.0.0.1") as client:
        return (client.getpeercert() or {})["serialNumber"]


def check(variables: dict[str, str], *flags: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    command = [python, "-m", "stator", *(flags or ("--check",))]
    env = {**variables, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_all_changes_are_in_use_soon_and_no_scrape_fails(starts: Starts, authority: Authority, web: Write) -> None:
    first, second = authority.issue(), authority.issue()
    both = f"basic_auth_users: {{prom: {HASH}, other: {OTHER_HASH}}}\n"
    program = starts({**web(tls(first) + both), "STTR_SERVER_WORKERS": "2"})
    program.wait_for("ready")
    over, statuses, failures = threading.Event(), list[int](), list[OSError]()

    def scrape() -> None:
        context = trusting(authority)
        while not over.is_set():
            try:
                statuses.append(ask(program, context, basic()).status)
            except OSError as error:
                failures.append(error)

    clients = [threading.Thread(target=scrape) for _ in range(4)]
    for each in clients:
        each.start()
    before = serial(program, authority)
    web(tls(second) + USERS)
    eventually(lambda: serial(program, authority) != before)
    before = serial(program, authority)
    second.replace_by(authority.issue())  # a file that only the new version names
    eventually(lambda: serial(program, authority) != before)
    web(f"{inline(first)}{USERS}http_server_config: {{headers: {{X-Frame-Options: sameorigin}}}}\n")
    context = trusting(authority)
    eventually(lambda: ask(program, context, basic()).headers.get("x-frame-options") == "sameorigin")
    web(tls(first) + both)
    eventually(lambda: {ask(program, context, basic("other", OTHER_PASSWORD)).status for _ in range(8)} == {200})
    over.set()
    for each in clients:
        each.join()
    assert (failures, {*statuses}) == ([], {200})
    assert len(statuses) > 20
    assert {line["msg"] for line in program.lines(level="warning")} <= {"wrong credentials"}  # until the last change


def test_users_come_and_go(starts: Starts, web: Write) -> None:
    program = starts(web(""))
    assert program.get("/metrics").status == 200
    web(USERS)
    eventually(lambda: program.get("/metrics").status == 401)
    assert (program.get("/metrics", basic()).status, program.get("/monitor").status) == (200, 200)
    web(OTHER_USERS)
    eventually(lambda: ask(program, None, basic("other", OTHER_PASSWORD)).status == 200)
    assert ask(program, None, basic()).status == 401
    web("")
    eventually(lambda: program.get("/metrics").status == 200)


def test_a_change_that_can_not_be_used_leaves_the_old_file_in_use(
    starts: Starts, authority: Authority, web: Write
) -> None:
    program, context = starts(web(tls(authority.issue()) + USERS)), trusting(authority)
    program.wait_for("ready")
    for text, expected in (
        ("basic_auth_users: {prom: secret}", "basic_auth_users.prom to be a hash of bcrypt"),
        (
            "tls_server_config: {cert_file: none, key_file: none}",
            "to be a readable PEM file (No such file or directory)",
        ),
    ):
        web(text)
        eventually(
            lambda expected=expected: (  # type: ignore[misc]
                ask(program, context).status and any(expected in line["msg"] for line in program.lines(level="warning"))
            )
        )
        assert (ask(program, context).status, ask(program, context, basic()).status) == (401, 200)


def test_tls_stays_as_it_was_at_the_start(starts: Starts, authority: Authority, web: Write) -> None:
    program, context = starts(web(tls(authority.issue()))), trusting(authority)
    assert ask(program, context).status == 200
    web(USERS)
    eventually(lambda: ask(program, context).status == 401)
    (line,) = program.lines(level="warning")
    assert line["msg"] == ("tls_server_config can't be added or removed while the service runs: it goes on with https")


def test_a_client_without_the_required_certificate_gets_no_answer_and_a_line(
    starts: Starts, authority: Authority, web: Write
) -> None:
    own, other = authority.issue("scraper.example"), authority.issue("other.example", common_name="scraper.example")
    more = f"  client_ca_file: {authority.cert}\n  client_auth_type: RequireAndVerifyClientCert\n"
    program = starts(web(tls(authority.issue(), more + "  client_allowed_sans: [scraper.example]\n")))
    assert ask(program, trusting(authority, own)).status == 200
    for context in (trusting(authority), trusting(authority, other)):
        for request in (b"GET /monitor HTTP/1.1\r\nHost: a\r\n\r\n", b"nonsense\r\n\r\n"):
            with context.wrap_socket(program.dial(), server_hostname="127.0.0.1") as client:
                client.sendall(request)
                assert client.recv(1000) == b""
    for reason in ("it has no certificate", "its certificate, that of CN=scraper.example"):
        eventually(lambda reason=reason: any(reason in line["msg"] for line in program.lines(level="warning")))  # type: ignore[misc]
    stranger = Authority(authority.cert.parent / "stranger").issue("scraper.example")
    with pytest.raises((OSError, ssl.SSLError)):
        ask(program, trusting(authority, stranger))
    eventually(
        lambda: any("refused by what client_ca trusts" in line["msg"] for line in program.lines(level="warning"))
    )
    assert program.lines("refused a request") == []
    assert program.stop() == 0


def test_one_rate_holds_for_all_workers_and_our_own_probes_are_exempt(starts: Starts, web: Write) -> None:
    program = starts({**web(ONCE + USERS), "STTR_SERVER_WORKERS": "4"})
    program.wait_for("ready")
    statuses = [program.get("/metrics", basic()).status for _ in range(12)]
    assert sorted(statuses) == [200] * 5 + [429] * 7
    answer = program.get("/monitor")
    assert (answer.status, answer.body) == (429, b'{"error":"too many requests"}')
    program.workers[0].kill()
    web("rate_limit: {interval: 0}\n" + USERS)
    eventually(lambda: {program.get("/metrics", basic()).status for _ in range(12)} == {200})


def test_headers_of_the_file_replace_ours_on_every_answer_but_that_of_the_rate(starts: Starts, web: Write) -> None:
    headers = "http_server_config: {headers: {Content-Security-Policy: default-src *, X-XSS-Protection: '0'}}\n"
    program = starts(web(headers + ONCE + USERS))
    asked: list[tuple[str, dict[str, str]]] = [("/metrics", {}), ("/metrics", basic()), ("/none", basic()), ("/", {})]
    for path, credentials in asked:
        found = program.get(path, credentials).headers
        names = ("content-security-policy", "x-xss-protection", "x-content-type-options", "referrer-policy")
        assert [found.get(name) for name in names] == ["default-src *", "0", "nosniff", "no-referrer"]
    connection = program.connect()
    connection.request("GET", "/metrics")
    response = connection.getresponse()
    assert response.headers.get_all("content-security-policy") == ["default-src *"]
    response.read()
    connection.close()
    found = program.get("/metrics").headers
    assert ("default-src 'none'" in found["content-security-policy"], "x-xss-protection" in found) == (True, False)


def test_tokens_may_stand_beside_it(starts: Starts, web: Write, tmp_path: Path) -> None:
    tokens = {"STTR_SERVER_TOKENSFILE": settings(tmp_path)["STTR_SERVER_TOKENSFILE"]}
    program = starts({**web(USERS), **tokens})
    asked: list[dict[str, str]] = [{}, basic(), bearer(), bearer("x" * 20)]
    assert [program.get("/metrics", headers).status for headers in asked] == [401, 200, 200, 401]
    assert program.get("/metrics").headers["www-authenticate"].startswith("Basic")
    web("")
    eventually(lambda: program.get("/metrics", basic()).status == 401)
    assert [program.get("/metrics", headers).status for headers in (bearer(), {})] == [200, 401]


@pytest.mark.parametrize("name", ["CERTFILE", "KEYFILE", "CLIENTCAFILE", "CLIENTNAMES", "USERSFILE", "TLSMINVERSION"])
def test_settings_that_the_file_has_itself_may_not_stand_beside_it(web: Write, tmp_path: Path, name: str) -> None:
    value = "1.3" if name == "TLSMINVERSION" else str(settings(tmp_path)["STTR_SERVER_USERSFILE"])
    done = check({**web(""), f"STTR_SERVER_{name}": value})
    assert done.returncode == 2
    assert f"expected no STTR_SERVER_{name} beside it: the file has" in done.stderr


def test_nothing_that_is_secret_is_shown(starts: Starts, authority: Authority, web: Write) -> None:
    certificate = authority.issue()
    key = "".join(certificate.key.read_text().splitlines()[2:4])[:40]
    variables = web(inline(certificate) + USERS)
    program = starts(variables)
    context = trusting(authority)
    shown = [ask(program, context, basic()).body.decode(), check(variables, "-c").stdout]
    for text in (
        f"basic_auth_users: {{prom: {HASH}x}}",
        f"basic_auth_users: {{prom: [{HASH}]}}",
        f"basic_auth_users: {HASH}",
        f"basic_auth_users: {{prom: {HASH}",
        f"basic_auth_users:\n  prom: {HASH}\n  prom: {HASH}\n",
        inline(certificate).replace("BEGIN", "BEGUN") + USERS,
        inline(certificate).replace("  key: |\n", "  key:\n") + USERS,
    ):
        done = check(web(text))
        assert done.returncode == 2, text
        shown.append(done.stderr)
        eventually(lambda text=text: ask(program, context).status)  # type: ignore[misc]
    eventually(lambda: ask(program, context).status and program.lines(level="warning"))
    for text in (*shown, program.output, program.errors):
        assert HASH[7:] not in text
        assert key not in text.replace("\\n", "")
        assert PASSWORD not in text


def test_errors_name_the_key_of_a_text_and_the_path_of_a_file(authority: Authority, web: Write) -> None:
    certificate, other = authority.issue(), authority.issue()
    found = check(web(inline(Certificate(certificate.cert, other.key)))).stderr
    assert "expected tls_server_config.key to be the key that belongs to the certificate, and not another's\n" in found
    found = check(web(tls(Certificate(certificate.cert, other.key)))).stderr
    assert f"expected tls_server_config.key_file={other.key} to be the key that belongs to the certificate" in found
    assert "/proc/" not in found


def test_relative_paths_are_relative_to_the_file(starts: Starts, authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue()
    write_private(tmp_path / "own.key", certificate.key.read_text())
    (tmp_path / "own.pem").write_text(certificate.cert.read_text())
    file = write_private(tmp_path / "web.yml", "tls_server_config: {cert_file: own.pem, key_file: own.key}")
    assert ask(starts({"STTR_SERVER_WEBCONFIG": str(file)}), trusting(authority)).status == 200


def test_weaknesses_of_the_file_are_warnings(web: Write, tmp_path: Path, authority: Authority) -> None:
    variables = web(f"basic_auth_users: {{prom: {HASH.replace('$04$', '$16$')}}}\n{inline(authority.issue())}")
    (tmp_path / "web.yml").chmod(0o644)
    found = check(variables)
    assert found.returncode == 0
    assert "web.yml can be read by all users of this host (mode 644): chmod o-r" in found.stderr
    assert "web.yml, basic_auth_users.prom: a hash of cost 16 takes seconds" in found.stderr


def test_an_expired_text_is_named_by_its_key(web: Write, authority: Authority) -> None:
    found = check(web(inline(authority.issue(begins=-3 * DAY, ends=-DAY))))
    assert "clients will refuse the certificate in tls_server_config.cert: it expired at" in found.stderr


def test_several_curves_need_a_newer_python(web: Write, authority: Authority) -> None:
    variables = web(tls(authority.issue(), "  curve_preferences: [CurveP384, X25519]\n"))
    if sys.version_info < (3, 15):
        assert "to be a single one: Python can choose several from 3.15 on" in check(variables).stderr


@pytest.mark.parametrize(
    "text", ["", "tls", f"tls\n{USERS}", "required", ONCE.replace("5", "0"), "# cert_file: none\n"]
)
def test_the_image_s_health_check_knows_the_file(starts: Starts, authority: Authority, web: Write, text: str) -> None:
    required = f"  client_ca_file: {authority.cert}\n  client_auth_type: RequireAndVerifyClientCert\n"
    texts = {"tls": tls(authority.issue()), "required": tls(authority.issue(), required)}
    begin, _, rest = text.partition("\n")
    variables = web(texts.get(begin, begin + "\n") + rest)
    program = starts(variables)
    env = {**variables, "STTR_SERVER_PORT": str(program.port)}
    command = [sys.executable, "-I", str(ROOT / "etc/healthcheck.py")]
    assert subprocess.run(command, env=env, check=False).returncode == 0
    assert program.lines(level="warning") == []
    program.kill()
    assert subprocess.run(command, env=env, stderr=subprocess.DEVNULL, check=False).returncode == 1


def test_changes_leave_no_file_open(starts: Starts, authority: Authority, web: Write) -> None:
    text, context = inline(authority.issue()), trusting(authority)
    program = starts(web(text))
    program.wait_for("ready")
    (worker,) = program.workers
    for more, status in ((USERS, 401), ("", 200), (USERS, 401), ("", 200)):
        web(text + more)
        eventually(lambda status=status: ask(program, context).status == status)  # type: ignore[misc]

    def in_memory() -> int:
        ask(program, context)  # a handshake takes what has changed
        number = 0
        for each in Path(f"/proc/{worker.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # it was closed just now
                number += "memfd:stator (" in str(each.readlink())
        return number

    # The certificate and its key; those of the last connection go with it.
    eventually(lambda: in_memory() <= 2)


def test_a_pipe_in_place_of_a_file_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "web.yml")
    with pytest.raises(ContentError, match="a regular file"):
        has_tls(str(tmp_path / "web.yml"))
