from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stator.access.endpoints import ALL
from stator.access.files import digest
from stator.access.guard import Decision, Guard
from stator.access.networks import Networks
from stator.access.passwords import MOST_WAITING, Passwords
from stator.access.requests import Request
from stator.access.rules import Credentials, Rules
from stator.settings.paths import PathSet
from tests.captured_log import CapturedLog
from tests.credentials import HASH, OTHER_HASH, OTHER_TOKEN, PASSWORD, TOKEN, basic, bearer
from tests.program import eventually

USERS = {"prom": HASH, "other": OTHER_HASH}
CREDENTIALS = Credentials(USERS, [digest(OTHER_TOKEN), digest(TOKEN)])
KEY = "0123456789abcdef"


@pytest.fixture
def story(tmp_path: Path) -> Iterator[CapturedLog]:
    with CapturedLog(tmp_path / "log") as captured:
        yield captured


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Asker:
    """Asks a guard as the applications do, and counts the hashings."""

    def __init__(self, story: CapturedLog, credentials: Callable[[], Credentials | None], **options: Any) -> None:
        self.clock, self.hashed = Clock(), list[tuple[bytes, bytes]]()
        own = Passwords(self._matches)
        self.guard = Guard(
            story.log, Rules(credentials), probe_key=lambda: KEY, clock=self.clock, **{"passwords": own, **options}
        )

    def _matches(self, password: bytes, hashed: bytes) -> bool:
        self.hashed.append((password, hashed))
        return password == PASSWORD.encode() and hashed == HASH.encode()

    def ask(
        self, headers: dict[str, str] | None = None, path: str = "/metrics", address: str = "127.0.0.2", key: str = ""
    ) -> Decision:
        request = Request(address, path, (headers or {}).get("Authorization", ""), key)
        return self.guard.decide(request) or self.guard.decide_by_hashing(request)

    def status(self, *args: Any, **options: Any) -> int:
        return self.ask(*args, **options).status


@pytest.fixture
def asker(story: CapturedLog) -> Asker:
    return Asker(story, lambda: CREDENTIALS)


@pytest.mark.parametrize("headers", [basic(), bearer(), bearer(OTHER_TOKEN), {"Authorization": f"bearer  {TOKEN} "}])
def test_lets_right_credentials_pass(asker: Asker, headers: dict[str, str]) -> None:
    assert asker.ask(headers) == Decision()


@pytest.mark.parametrize(
    "text",
    [
        *(basic(*each)["Authorization"] for each in [("prom", "wrong"), ("nobody", PASSWORD), ("", ""), ("prom", "")]),
        "Basic",
        "Basic %%%",
        "Basic cHJvbQ==",  # without a colon
        "Basic /////w==",
        "Bearer",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN}, Bearer {TOKEN}",
        "Bearer ümlaut\udcff",
        f"Digest {TOKEN}",
        TOKEN,
    ],
)
def test_refuses_wrong_credentials(asker: Asker, text: str) -> None:
    decision = asker.ask({"Authorization": text})
    assert decision.status == 401
    assert [name for name, _ in decision.headers] == ["WWW-Authenticate", "WWW-Authenticate"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(authorization=st.text(), probe_key=st.text(st.characters(max_codepoint=255)))
def test_whatever_a_client_sends_is_refused_and_no_error(
    story: CapturedLog, authorization: str, probe_key: str
) -> None:
    guard = Guard(story.log, Rules(lambda: CREDENTIALS), probe_key=lambda: KEY, passwords=Passwords(lambda *_: False))
    for text in (authorization, f"Basic {authorization}", f"Bearer {authorization}"):
        request = Request("127.0.0.2", "/metrics", text, probe_key)
        assert (guard.decide(request) or guard.decide_by_hashing(request)).status == 401


@pytest.mark.parametrize(
    ("credentials", "schemes"),
    [(Credentials(USERS), ["Basic"]), (Credentials(tokens=[digest(TOKEN)]), ["Bearer"])],
    ids=["users", "tokens"],
)
def test_asks_for_what_is_configured_alone(story: CapturedLog, credentials: Credentials, schemes: list[str]) -> None:
    asker = Asker(story, lambda: credentials)
    assert [value.split()[0] for _, value in asker.ask().headers] == schemes
    statuses = {asker.status(basic()), asker.status(bearer())}
    assert statuses == {0, 401}


def test_hashes_a_right_password_once(asker: Asker) -> None:
    assert [asker.status(basic()) for _ in range(100)] == [0] * 100
    assert len(asker.hashed) == 1


def test_hashes_as_much_for_a_user_whom_nobody_knows(asker: Asker) -> None:
    asker.status(basic("nobody", PASSWORD))
    asker.status(basic("prom", "wrong"))
    assert [hashed for _, hashed in asker.hashed] == [HASH.encode()] * 2


def test_forgets_a_password_whose_hash_has_changed(story: CapturedLog) -> None:
    users = [USERS]
    asker, statuses = Asker(story, lambda: Credentials(users[0])), []
    for users[0] in (USERS, {"prom": OTHER_HASH}, {"other": OTHER_HASH}, USERS):
        statuses.append(asker.status(basic()))
    assert statuses == [0, 401, 401, 0]


def test_hashes_no_more_than_bcrypt_takes_of_a_password(story: CapturedLog) -> None:
    asker = Asker(story, lambda: CREDENTIALS, passwords=Passwords())
    assert asker.status(basic("prom", "x" * 1000)) == 401
    assert asker.status(basic("prom", f"{PASSWORD}\0")) == 401
    assert asker.status(basic()) == 0


def test_nobody_needs_credentials_where_none_are_configured(story: CapturedLog) -> None:
    asker = Asker(story, lambda: None)
    assert asker.ask() == Decision()
    assert asker.ask(basic("prom", "wrong")) == Decision()


def test_open_paths_show_what_is_brief_to_those_without_credentials(asker: Asker) -> None:
    for path in ("/monitor", "/monitor/", "/monitor/live"):
        assert asker.ask(path=path) == Decision(is_brief=True)
        assert asker.ask(basic(), path) == Decision()
        assert (asker.ask(bearer("wrong"), path).status, asker.ask(bearer("wrong"), path).is_brief) == (0, True)
    assert [asker.status(path=path) for path in ("/monitors", "/", "/config", "/metrics", "/x/monitor")] == [401] * 5


def test_open_paths_can_be_others(story: CapturedLog) -> None:
    asker = Asker(story, lambda: CREDENTIALS, open_paths=PathSet(["/metrics"]))
    assert (asker.status(), asker.status(path="/monitor")) == (0, 401)


def test_endpoints_that_are_not_chosen_are_not_found_by_those_who_may_ask(story: CapturedLog) -> None:
    paths = ["/metrics", "/monitor", "/monitor/live", "/config", "/config/", "/", "/status", "/assets/plot.js", "/x"]
    asker = Asker(story, lambda: CREDENTIALS, endpoints=["metrics", "monitor"])
    assert [asker.status(bearer(), path) for path in paths] == [0, 0, 0, 404, 404, 404, 404, 404, 0]
    assert [asker.status(path=path) for path in paths] == [401, 0, 0, 401, 401, 401, 401, 401, 401]
    closed = Asker(story, lambda: None, endpoints=[name for name in ALL if name != "monitor"])
    assert [closed.status(path=path) for path in paths] == [0, 404, 404, 0, 0, 0, 0, 0, 0]


def test_addresses_that_are_not_allowed_are_refused_whatever_they_ask_for(story: CapturedLog) -> None:
    asker = Asker(story, lambda: CREDENTIALS, allow=Networks(["10.0.0.0/8", "fd00::/8"]))
    for address in ("127.0.0.2", "::1", "", "unknown"):
        assert [asker.status(basic(), path, address) for path in ("/metrics", "/monitor", "/x")] == [403] * 3
    assert [asker.status(basic(), "/metrics", each) for each in ("10.1.2.3", "fd00::1")] == [0, 0]
    assert asker.status(None, "/metrics", "10.1.2.3") == 401


def test_our_own_probes_pass_wherever_they_ask(story: CapturedLog) -> None:
    asker = Asker(story, lambda: CREDENTIALS, allow=Networks(["10.0.0.0/8"]), open_paths=PathSet(), endpoints=[])
    assert asker.ask(path="/monitor", key=KEY) == Decision()
    assert [asker.status(path="/monitor", key=key) for key in ("", "x", KEY[:-1], KEY + "0", "ü")] == [403] * 5


def test_no_key_is_none(story: CapturedLog) -> None:
    guard = Guard(story.log, Rules(lambda: CREDENTIALS))
    decision = guard.decide(Request("127.0.0.1", "/metrics", "", ""))
    assert decision is not None
    assert decision.status == 401


def test_the_sixth_try_of_an_address_in_ten_seconds_is_refused_without_hashing(asker: Asker) -> None:
    assert [asker.status(basic("prom", f"guess {n}")) for n in range(5)] == [401] * 5
    decision = asker.ask(basic("prom", "guess 6"))
    assert (decision.status, decision.headers) == (429, (("Retry-After", "10"),))
    assert len(asker.hashed) == 5
    # A right one would tell the guesser that it is right.
    assert asker.status(basic()) == 429
    assert asker.status(bearer()) == 429
    assert asker.ask(basic(), "/monitor").is_brief
    assert asker.status() == 401
    assert asker.status(basic(), address="127.0.0.3") == 0

    asker.clock.now += 9.9
    assert asker.ask(basic()).headers == (("Retry-After", "1"),)
    asker.clock.now += 0.1
    assert asker.status(basic()) == 0


def test_failures_that_are_far_apart_block_nobody(asker: Asker) -> None:
    for _ in range(20):
        assert asker.status(basic("prom", "wrong")) == 401
        asker.clock.now += 2.5


def test_tokens_are_guessed_no_faster(asker: Asker) -> None:
    assert [asker.status(bearer(f"guess {n}")) for n in range(7)] == [401] * 5 + [429] * 2


def test_a_network_of_ipv6_counts_as_one_address(asker: Asker) -> None:
    for n in range(5):
        asker.status(bearer("wrong"), address=f"2001:db8::{n}")
    assert asker.status(bearer(), address="2001:db8::ffff:ffff:1:2") == 429
    assert asker.status(bearer(), address="2001:db8:0:1::1") == 0


def test_ten_thousand_guesses_are_a_handful_of_lines(asker: Asker, story: CapturedLog) -> None:
    counted = 0
    for n in range(10_000):
        counted += asker.ask(basic("prom", f"guess {n}")).is_counted
        asker.clock.now += 20 / 10_000
    assert counted == 9_999
    assert [line["msg"] for line in story.lines] == ["wrong credentials"]
    asker.clock.now += 60
    asker.status(bearer())
    first, summary = story.lines
    assert (first["level"], first["remote_ip"]) == ("warning", "127.0.0.2")
    assert (summary["msg"], summary["remote_ip"], summary["times"]) == ("wrong credentials, again", "127.0.0.2", 9_999)
    assert 60 <= summary["seconds"] <= 81
    asker.clock.now += 600
    asker.status(bearer())
    asker.status(bearer("wrong"))
    assert [line["msg"] for line in story.lines][2:] == ["wrong credentials"]
    assert "guess" not in story.text


def test_guesses_from_many_addresses_are_a_few_lines_and_take_little_memory(asker: Asker, story: CapturedLog) -> None:
    for n in range(20_000):
        asker.status(bearer("wrong"), address=f"10.0.{n // 250}.{n % 250}")
    asker.clock.now += 61
    asker.status(bearer())
    assert len(story.lines) < 40
    assert story.lines[-1]["remote_ip"] == "others"
    assert sum(line.get("times", 1) for line in story.lines) == 20_000
    assert len(asker.guard._limit._failures) <= 4096


def test_passwords_that_come_at_once_are_hashed_one_after_another_and_no_more_than_five(story: CapturedLog) -> None:
    is_hashing, hashed, may_end, statuses = Event(), [], Event(), []

    def matches(password: bytes, _hashed: bytes) -> bool:
        assert not is_hashing.is_set()
        is_hashing.set()
        hashed.append(password)
        may_end.wait(10)
        is_hashing.clear()
        return False

    asker = Asker(story, lambda: CREDENTIALS, passwords=Passwords(matches))
    threads = [Thread(target=lambda n=n: statuses.append(asker.status(basic("prom", f"{n}")))) for n in range(20)]
    for thread in threads:
        thread.start()
    eventually(is_hashing.is_set)
    # Tokens need no turn.
    assert asker.status(bearer(), address="127.0.0.3") == 0
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert sorted(statuses) == [401] * 5 + [429] * 15
    assert len(hashed) == 5


OPEN = PathSet(("/monitor", "/config"))


def test_who_comes_while_too_many_wait_is_asked_to_come_again(story: CapturedLog) -> None:
    may_end, statuses = Event(), []

    def matches(_password: bytes, _hashed: bytes) -> bool:
        may_end.wait(10)
        return True

    passwords = Passwords(matches)
    asker = Asker(story, lambda: CREDENTIALS, passwords=passwords, endpoints=("metrics", "monitor"), open_paths=OPEN)
    threads = [
        Thread(target=lambda n=n: statuses.append(asker.status(basic(), address=f"10.0.0.{n}")))
        for n in range(MOST_WAITING)
    ]
    for thread in threads:
        thread.start()
    eventually(lambda: passwords._waiting._value == 0)
    decision = asker.ask(basic())
    assert (decision.status, decision.headers) == (429, (("Retry-After", "1"),))
    assert asker.ask(basic(), "/monitor").is_brief
    assert asker.ask(basic(), "/config").status == 404
    may_end.set()
    for thread in threads:
        thread.join(10)
    assert statuses == [0] * MOST_WAITING
    assert asker.status(basic()) == 0


def test_says_whose_credentials_are_not_known_to_be_right(asker: Asker) -> None:
    def is_doubtful(headers: dict[str, str]) -> bool:
        return asker.guard.is_doubtful(Request("127.0.0.2", "/metrics", headers.get("Authorization", "")))

    assert [is_doubtful(each) for each in ({}, bearer(), bearer("wrong"), basic())] == [False, False, True, True]
    asker.status(basic())
    assert not is_doubtful(basic())
    for _ in range(5):
        asker.status(bearer("wrong"))
    assert is_doubtful(basic())
