"""The page in a real browser over https, for users and tokens that are right, wrong or missing."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.certificates import Authority
from tests.credentials import basic, bearer, settings
from tests.integration.programs import program_path
from tests.program import Program, eventually
from tests.web.status.browser import browser, command, trust

UNAUTHORIZED = "unauthorized"


@pytest.fixture(scope="module")
def chrome(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program_path("chromium")
    folder = tmp_path_factory.mktemp("browser")
    trust(folder, authority.cert)
    with browser(folder) as running:
        yield running


@pytest.fixture
def served(authority: Authority, tmp_path: Path) -> Iterator[Callable[[Mapping[str, str]], Program]]:
    """Starts Stator with https and more settings."""
    programs: list[Program] = []

    def start(more: Mapping[str, str], by: Authority = authority) -> Program:
        mine = by.issue()
        env = {"STTR_SERVER_CERTFILE": str(mine.cert), "STTR_SERVER_KEYFILE": str(mine.key), "STTR_COLLECTORS": "wave"}
        program = Program({**env, **more}, tmp_path)
        programs.append(program.__enter__())
        return program

    yield start
    for each in programs:
        each.__exit__(None, None, None)


def look(chrome: Chrome, program: Program, user: str = "", headers: Mapping[str, str] | None = None) -> str:
    """The text of the page as the browser has it with some credentials."""
    command(chrome, "Network.enable")
    command(chrome, "Network.setExtraHTTPHeaders", headers=dict(headers or {}))
    chrome.get("about:blank")
    chrome.get(f"https://{user}127.0.0.1:{program.port}/")
    return chrome.find_element(By.TAG_NAME, "body").text


def test_a_trusted_certificate_shows_the_page_with_its_plots(chrome: Chrome, served: Callable[..., Program]) -> None:
    program = served({})
    assert "wave" in look(chrome, program)
    eventually(lambda: chrome.find_elements(By.CSS_SELECTOR, "figure canvas"), within=20)


def test_a_certificate_of_an_unknown_authority_shows_nothing(
    chrome: Chrome, served: Callable[..., Program], tmp_path: Path
) -> None:
    program = served({}, Authority(tmp_path / "other"))
    assert look(chrome, program) == ""
    program.wait_for("TLS handshake with 127.0.0.1 failed: it refuses our certificate")


def test_without_a_client_certificate_a_browser_is_told_so(
    chrome: Chrome, authority: Authority, served: Callable[..., Program]
) -> None:
    program = served({"STTR_SERVER_CLIENTCAFILE": str(authority.cert)})
    assert "a client certificate is needed" in look(chrome, program)


@pytest.mark.parametrize(
    ("headers", "is_let_in"),
    [
        (basic(), True),
        (bearer(), True),
        (basic("prom", "wrong"), False),
        (basic("nobody"), False),
        (bearer("geheim-token-wrong-wrong"), False),
        ({}, False),
    ],
)
def test_only_right_credentials_show_the_page(
    chrome: Chrome, served: Callable[..., Program], tmp_path: Path, headers: Mapping[str, str], *, is_let_in: bool
) -> None:
    program = served(settings(tmp_path))
    text = look(chrome, program, headers=headers)
    assert ("wave" in text) is is_let_in
    assert (UNAUTHORIZED in text) is not is_let_in


def test_a_user_who_was_asked_sees_the_plots_too(
    chrome: Chrome, served: Callable[..., Program], tmp_path: Path
) -> None:
    program = served(settings(tmp_path))
    assert "wave" in look(chrome, program, user="prom:correct%20horse@")
    # The scripts ask with the credentials that the browser has been given.
    eventually(lambda: chrome.find_elements(By.CSS_SELECTOR, "figure canvas"), within=20)
