"""The program over https, as its clients see it."""

import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from datetime import timedelta
from http.client import HTTPSConnection
from pathlib import Path
from typing import TypeVar

import pytest

from tests.certificates import DAY, Authority, Certificate
from tests.integration.fetch import PEERS
from tests.integration.programs import program_path
from tests.program import MODULE, ROOT, Answer, Program, eventually
from tests.server.conftest import Starts

T = TypeVar("T")
CURL = shutil.which("curl") or "curl"
REQUEST = b"GET /monitor HTTP/1.1\r\nHost: stator\r\n\r\n"
# Not /monitor, which says 503 while the service stops.
LAST_REQUEST = b"GET /monitor/live HTTP/1.1\r\nHost: stator\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def certificate(authority: Authority) -> Certificate:
    return authority.issue()


@pytest.fixture(scope="module")
def program(
    authority: Authority, certificate: Certificate, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Program]:
    """One that wants client certificates of an authority, shared by tests that change nothing."""
    env = {**settings(certificate), "STTR_SERVER_CLIENTCAFILE": str(authority.cert)}
    with Program(env, tmp_path_factory.mktemp("stator")) as running:
        running.wait_for("ready")
        yield running


def settings(certificate: Certificate) -> dict[str, str]:
    return {"STTR_SERVER_CERTFILE": str(certificate.cert), "STTR_SERVER_KEYFILE": str(certificate.key)}


def trusting(authority: Authority, own: Certificate | None = None) -> ssl.SSLContext:
    """The context of a client."""
    context = ssl.create_default_context(cafile=authority.cert)
    if own:
        context.load_cert_chain(own.cert, own.key)
    return context


def ask(program: Program, context: ssl.SSLContext, path: str = "/monitor") -> Answer:
    """Asks on a connection of its own."""
    connection = HTTPSConnection("127.0.0.1", program.port, timeout=10, context=context)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return Answer(response.status, dict(response.headers), response.read())
    finally:
        connection.close()


def dial(program: Program, context: ssl.SSLContext) -> ssl.SSLSocket:
    return context.wrap_socket(program.dial(), server_hostname="127.0.0.1")


def curl(program: Program, *options: object) -> str:
    command = [CURL, "-sS", "-o", "/dev/null", "-w", "%{http_code}", "--noproxy", "*", *map(str, options)]
    done = subprocess.run([*command, f"https://127.0.0.1:{program.port}/metrics"], capture_output=True, check=False)
    return done.stdout.decode()


def warned(program: Program, text: str) -> bool:
    return any(text in line["msg"] for line in program.lines(level="warning"))


def test_it_answers_over_https_on_a_connection_that_stays(program: Program, authority: Authority) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    with dial(program, context) as client:
        for _ in range(3):
            client.sendall(REQUEST)
            assert client.recv(65536).endswith(b'{"status":"ok"}')
        assert (client.selected_alpn_protocol(), client.compression()) == ("http/1.1", None)


def test_a_request_without_a_certificate_is_answered_only_where_it_needs_none(
    program: Program, authority: Authority
) -> None:
    context = trusting(authority)
    paths = ("/monitor", "/monitor/live", "/metrics", "/metrics/", "/config", "/", "/monitors")
    assert [ask(program, context, path).status for path in paths] == [200, 200, 403, 403, 403, 403, 403]
    assert json.loads(ask(program, context, "/metrics").body) == {"error": "a client certificate is needed"}
    eventually(lambda: warned(program, "refused requests from 127.0.0.1: it has no client certificate"))


def test_a_client_certificate_of_the_authority_is_enough(program: Program, authority: Authority) -> None:
    assert ask(program, trusting(authority, authority.issue("prometheus")), "/metrics").status == 200
    own = authority.issue("prometheus")
    assert curl(program, "--cacert", authority.cert, "--cert", own.cert, "--key", own.key) == "200"
    assert curl(program, "--cacert", authority.cert) == "403"


def test_a_client_certificate_of_another_authority_fails_the_handshake(
    program: Program, authority: Authority, stranger: Authority
) -> None:
    for own, why in (
        (stranger.issue("prometheus"), "unable to get local issuer certificate"),
        (authority.issue("prometheus", begins=-3 * DAY, ends=-DAY), "certificate has expired"),
    ):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            ask(program, trusting(authority, own))
        eventually(lambda why=why: warned(program, f"STTR_SERVER_CLIENTCAFILE trusts: {why}"))  # type: ignore[misc]
        assert curl(program, "--cacert", authority.cert, "--cert", own.cert, "--key", own.key) == "000"


def test_only_clients_with_one_of_the_names_are_let_in(
    starts: Starts, authority: Authority, certificate: Certificate
) -> None:
    names = "prometheus,ops@example.org,10.0.0.9,shop.example"
    program = starts(
        {
            **settings(certificate),
            "STTR_SERVER_CLIENTCAFILE": str(authority.cert),
            "STTR_SERVER_CLIENTNAMES": names,
        }
    )
    good = [authority.issue(name) for name in ("ops@example.org", "10.0.0.9", "shop.example")]
    good.append(authority.issue("a.example", common_name="prometheus"))
    assert [ask(program, trusting(authority, own), "/metrics").status for own in good] == [200] * 4
    other = authority.issue("shop.example.org", common_name="prom,etheus")
    assert ask(program, trusting(authority, other), "/metrics").status == 403
    assert ask(program, trusting(authority, other), "/monitor").status == 200
    said = r"its certificate is that of CN=prom\,etheus,"
    eventually(lambda: warned(program, said))


def test_http_is_answered_with_what_is_wrong_and_logged_in_one_line(program: Program, authority: Authority) -> None:
    for _ in range(30):
        refused = program.get("/metrics")
        assert refused.status == 400
        assert json.loads(refused.body) == {"error": "the request was http, and this port speaks https"}
    eventually(lambda: warned(program, "TLS handshake with 127.0.0.1 failed: it speaks http"))
    assert sum("it speaks http" in line["msg"] for line in program.lines(level="warning")) < 10
    assert ask(program, trusting(authority)).status == 200


def test_who_does_not_trust_us_or_speaks_something_else_is_named_in_a_line(
    program: Program, stranger: Authority
) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(program, trusting(stranger))
    with program.dial() as client:
        client.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
        assert client.recv(100)[:1] in (b"\x15", b"")  # an alert, or nothing
    with program.dial() as client:
        client.sendall(b"\x16\x03\x01")
    eventually(lambda: warned(program, "it refuses our certificate, since it does not know the authority"))
    eventually(lambda: warned(program, "it does not speak TLS"))
    eventually(lambda: warned(program, "it closed the connection"))


def test_who_only_looks_whether_the_port_is_open_is_not_logged(
    starts: Starts, authority: Authority, certificate: Certificate
) -> None:
    program = starts(settings(certificate))
    program.dial().close()
    assert ask(program, trusting(authority)).status == 200
    assert program.stop() == 0
    assert program.lines(level="warning") == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_versions_are_refused_and_logged(program: Program, authority: Authority, version: ssl.TLSVersion) -> None:
    context = trusting(authority)
    context.set_ciphers("DEFAULT@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError):
        ask(program, context)
    eventually(lambda: warned(program, "it wants an older version of TLS"))


def test_the_least_version_is_a_setting(starts: Starts, authority: Authority, certificate: Certificate) -> None:
    program = starts({**settings(certificate), "STTR_SERVER_TLSMINVERSION": "1.3"})
    context = trusting(authority)
    with dial(program, context) as client:
        assert client.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError):
        ask(program, context)


def test_openssl_finds_no_old_version_no_compression_and_no_renegotiation(
    program: Program, authority: Authority
) -> None:
    def s_client(*options: str, stdin: str = "") -> str:
        server = ("-connect", f"127.0.0.1:{program.port}", "-CAfile", str(authority.cert))
        command = [str(program_path("openssl")), "s_client", *server, *options]
        env = PEERS["openssl"].environ()
        done = subprocess.run(command, env=env, input=stdin, capture_output=True, text=True, timeout=30, check=False)
        return done.stdout + done.stderr

    for version in ("-tls1", "-tls1_1"):
        assert "Cipher is (NONE)" in s_client(version, "-cipher", "DEFAULT@SECLEVEL=0")
    connected = s_client("-tls1_2", "-comp", stdin="R\n")
    assert "Verify return code: 0 (ok)" in connected
    assert "Compression: NONE" in connected
    assert "RENEGOTIATING" in connected
    assert "no renegotiation" in connected
    assert "Verify return code: 0 (ok)" in s_client("-tls1_3")
    assert ask(program, trusting(authority)).status == 200


class Peer:
    """A client that has its connection and its TLS in its own hands."""

    def __init__(self, program: Program, context: ssl.SSLContext) -> None:
        self.socket = program.dial()
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="127.0.0.1")
        self._repeat(self.tls.do_handshake)
        self.flush()

    def send(self, data: bytes) -> None:
        self.tls.write(data)
        self.flush()

    def flush(self) -> None:
        if data := self._outgoing.read():
            self.socket.sendall(data)

    def read_all(self) -> bytes:
        """Reads until the server says that it sends no more."""
        text = b""
        with suppress(ssl.SSLZeroReturnError):
            while chunk := self._repeat(lambda: self.tls.read(65536)):
                text += chunk
        return text

    def _repeat(self, call: Callable[[], T]) -> T:
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                with suppress(BrokenPipeError):  # its side may be shut down
                    self.flush()
                if data := self.socket.recv(65536):
                    self._incoming.write(data)
                else:
                    self._incoming.write_eof()


@pytest.mark.parametrize("goodbye", ["", "TLS", "TCP", "TLS, TCP"])
def test_a_client_that_shuts_down_its_side_is_answered(program: Program, authority: Authority, goodbye: str) -> None:
    client = Peer(program, trusting(authority))
    with client.socket:
        client.send(REQUEST if goodbye else LAST_REQUEST)
        if "TLS" in goodbye:
            with suppress(ssl.SSLWantReadError):  # it waits for ours
                client.tls.unwrap()
            client.flush()
        if "TCP" in goodbye:
            client.socket.shutdown(socket.SHUT_WR)
        assert client.read_all().endswith(b'{"status":"ok"}')


def test_what_comes_after_a_goodbye_takes_no_memory(starts: Starts, authority: Authority) -> None:
    slow = (
        "import pathlib, time\n\nclass Slow:\n    def collect(self, now):\n        time.sleep(3)\n        return ()\n"
    )
    program = starts({**settings(authority.issue()), "STTR_COLLECTORS": "slow:Slow"}, modules={"slow": slow})
    program.wait_for("ready")
    (worker,) = program.workers
    client = Peer(program, trusting(authority))
    with client.socket:
        client.send(REQUEST.replace(b"/monitor", b"/metrics"))
        with suppress(ssl.SSLWantReadError):  # it waits for ours
            client.tls.unwrap()
        client.flush()
        before = worker.memory_info().rss
        client.socket.sendall(b"x" * 60_000_000)
        assert worker.memory_info().rss - before < 20_000_000
    assert ask(program, trusting(authority)).status == 200


def test_a_refused_request_that_goes_on_can_read_why(program: Program, authority: Authority) -> None:
    with dial(program, trusting(authority)) as client:
        client.sendall(b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n")
        client.sendall(b"X: y\r\n" * 1000)
        assert client.recv(65536).startswith(b"HTTP/1.1 414 ")


BIG = """
from stator.points import Point
class Big:
    def collect(self, now):
        for number in range(20_000):
            yield Point("big", "Many series", number, labels={"number": str(number), "text": "x" * 100})
"""


@pytest.mark.parametrize("program", [{"STTR_SERVER_CLIENTCAFILE": "authority"}], indirect=True)
def test_a_client_that_goes_on_after_a_failed_handshake_can_read_why(
    program: Program, authority: Authority, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other").issue("client")
    with dial(program, trusting(authority, other)) as client:
        for _ in range(50):
            client.sendall(bytes(20_000))
            time.sleep(0.002)
        with pytest.raises(ssl.SSLError, match="unknown ca"):
            client.recv(1)


def test_a_big_answer_comes_whole_and_who_does_not_read_it_is_closed(
    starts: Starts, authority: Authority, certificate: Certificate
) -> None:
    env = {**settings(certificate), "STTR_COLLECTORS": "big:Big", "STTR_SERVER_TIMEOUT": "1s"}
    program = starts(env, modules={"big": BIG})
    answer = ask(program, trusting(authority), "/metrics")
    assert len(answer.body) == int(answer.headers["content-length"]) > 2_500_000
    with socket.socket() as bare:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        bare.connect(("127.0.0.1", program.port))
        with trusting(authority).wrap_socket(bare, server_hostname="127.0.0.1") as client:
            client.sendall(REQUEST.replace(b"monitor", b"metrics"))
            eventually(lambda: warned(program, "closed connections of clients that did not read their answers: 1"))
    assert program.stop() == 0


def test_clients_that_never_finish_their_handshake_are_counted_and_dropped(
    starts: Starts, authority: Authority, certificate: Certificate
) -> None:
    env = {**settings(certificate), "STTR_SERVER_TIMEOUT": "2s", "STTR_SERVER_MAXCONNECTIONS": "150"}
    program = starts(env)
    program.wait_for("ready")
    (worker,) = program.workers
    before = len(worker.net_connections())
    with ExitStack() as stack:
        clients = [stack.enter_context(program.dial()) for _ in range(200)]
        for client in clients[::2]:
            client.sendall(b"\x16\x03\x01\x02")
        for _ in range(5):
            assert ask(program, trusting(authority)).status == 200
        assert len(worker.net_connections()) <= before + 151
        eventually(lambda: warned(program, "failed: it did not finish in time"))
    eventually(lambda: warned(program, "since more than 150 were open"))
    assert len(program.lines(level="warning")) < 10
    assert program.stop() == 0


class Scraper(threading.Thread):
    """Asks again and again, each time on a new connection, until the program is gone."""

    def __init__(self, program: Program, context: ssl.SSLContext, over: threading.Event) -> None:
        super().__init__()
        self._program, self._context, self._over = program, context, over
        self.answered, self.failed = 0, list[BaseException | int]()
        self._address = ("127.0.0.1", program.port)
        self.start()

    def run(self) -> None:
        while not self._over.is_set():
            try:
                sock = socket.create_connection(self._address, timeout=10)
            except ConnectionRefusedError:
                break  # the program is gone
            try:
                with self._context.wrap_socket(sock, server_hostname="127.0.0.1") as client:
                    client.sendall(LAST_REQUEST)
                    head = client.recv(65536)
                if not head.startswith(b"HTTP/1.1 200 "):
                    self.failed.append(int(head.split()[1]) if head else 0)
                self.answered += 1
            except OSError as error:
                self.failed.append(error)


def served(program: Program, authority: Authority) -> Mapping[str, object]:
    with dial(program, trusting(authority)) as client:
        return client.getpeercert() or {}


def test_a_certificate_is_replaced_under_load_without_a_failure(
    starts: Starts, authority: Authority, tmp_path: Path
) -> None:
    files = Authority(tmp_path / "other").issue()
    files.replace_by(authority.issue())
    program = starts({**settings(files), "STTR_SERVER_WORKERS": "2"})
    over = threading.Event()
    with dial(program, trusting(authority)) as kept:
        clients = [Scraper(program, trusting(authority), over) for _ in range(4)]
        for _ in range(3):
            before = served(program, authority)["serialNumber"]
            files.replace_by(authority.issue())
            eventually(lambda before=before: served(program, authority)["serialNumber"] != before)  # type: ignore[misc]
        over.set()
        for each in clients:
            each.join()
        kept.sendall(REQUEST)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200 ")
    assert [each.failed for each in clients] == [[]] * 4
    assert min(each.answered for each in clients) > 10
    assert program.lines(level="warning") == []


def test_the_old_certificate_stays_while_the_new_one_does_not_fit(
    starts: Starts, authority: Authority, tmp_path: Path
) -> None:
    files = Authority(tmp_path / "other").issue()
    files.replace_by(authority.issue())
    program = starts(settings(files))
    before = served(program, authority)
    files.key.write_text("nothing")
    eventually(lambda: served(program, authority) and warned(program, "can't use the changed files"))
    assert served(program, authority) == before
    (worker,) = program.workers
    worker.kill()
    eventually(lambda: program.workers not in ([], [worker]))
    assert eventually(lambda: served(program, authority)) == before
    files.replace_by(authority.issue())
    eventually(lambda: served(program, authority) != before)


def test_an_expired_certificate_is_served_with_a_warning(starts: Starts, authority: Authority, tmp_path: Path) -> None:
    expired = authority.issue(begins=-3 * DAY, ends=-timedelta(hours=1))
    program = starts(settings(expired))
    program.wait_for("ready")
    (line,) = program.lines(level="warning")
    assert line["msg"].startswith(f"clients will refuse the certificate in {expired.cert}: it expired at 20")
    checked = subprocess.run(
        [*MODULE, "--check"],
        env={**settings(expired), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, "warning: clients will refuse" in checked.stderr) == (0, True)
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(program, trusting(authority))
    eventually(lambda: warned(program, "it refuses our certificate, since that has expired"))


def test_a_stop_under_load_loses_no_request(starts: Starts, authority: Authority, certificate: Certificate) -> None:
    program = starts({**settings(certificate), "STTR_SERVER_WORKERS": "2"})
    program.wait_for("ready")
    over = threading.Event()
    clients = [Scraper(program, trusting(authority), over) for _ in range(4)]
    eventually(lambda: min(each.answered for each in clients) > 5)
    assert program.stop() == 0
    over.set()
    for each in clients:
        each.join()
    assert [each.failed for each in clients] == [[]] * 4


def test_a_stop_does_not_wait_long_for_a_handshake(
    starts: Starts, authority: Authority, certificate: Certificate
) -> None:
    program = starts(settings(certificate))
    program.wait_for("ready")
    with program.dial() as client:
        client.sendall(b"\x16\x03\x01\x02")
        begin = time.monotonic()
        assert program.stop() == 0
        assert time.monotonic() - begin < 5


def test_a_worker_that_is_killed_is_replaced(starts: Starts, authority: Authority, certificate: Certificate) -> None:
    program = starts(settings(certificate))
    assert ask(program, trusting(authority)).status == 200
    (worker,) = program.workers
    worker.kill()
    eventually(lambda: program.workers not in ([], [worker]))
    assert ask(program, trusting(authority)).status == 200


def test_what_is_shown_has_paths_and_no_key(program: Program, authority: Authority, certificate: Certificate) -> None:
    shown = ask(program, trusting(authority, authority.issue("me")), "/config").body.decode()
    assert str(certificate.key) in shown
    secret = "".join(certificate.key.read_text().splitlines()[1:-1])[:40]
    assert secret not in shown + program.output


def test_the_image_s_health_check_asks_over_https(program: Program, certificate: Certificate) -> None:
    env = {"STTR_SERVER_PORT": str(program.port), **settings(certificate)}
    command = [sys.executable, "-I", str(ROOT / "etc/healthcheck.py")]
    assert subprocess.run(command, env=env, check=False).returncode == 0
