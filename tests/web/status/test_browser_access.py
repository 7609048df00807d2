"""The page in a real browser over https, for certificates, users and tokens that are right, wrong or missing."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from selenium.common.exceptions import WebDriverException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from tests.certificates import Authority
from tests.credentials import basic, bearer, settings
from tests.integration.programs import program_path
from tests.program import Program, eventually
from tests.web.status.browser import browser, command, events, identify, logged, trust


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


def statuses(chrome: Chrome) -> set[int]:
    """The statuses of the answers that the browser got since the last call."""
    return {each["statusCode"] for each in events(chrome, "Network.responseReceivedExtraInfo")}


def test_a_trusted_certificate_shows_the_page_with_its_plots(chrome: Chrome, served: Callable[..., Program]) -> None:
    program = served({})
    assert "wave" in look(chrome, program)
    eventually(lambda: chrome.find_elements(By.CSS_SELECTOR, "figure canvas"), within=20)


def test_a_browser_warns_of_a_certificate_of_an_unknown_authority(
    chrome: Chrome, served: Callable[..., Program], tmp_path: Path
) -> None:
    program = served({}, Authority(tmp_path / "other"))
    assert "ERR_CERT_AUTHORITY_INVALID" in look(chrome, program)
    eventually(lambda: "failed: it refuses our certificate" in program.output)


def test_without_a_client_certificate_a_browser_is_told_so(
    chrome: Chrome, authority: Authority, served: Callable[..., Program]
) -> None:
    program = served({"STTR_SERVER_CLIENTCAFILE": str(authority.cert)})
    assert "a client certificate is needed" in look(chrome, program)


@pytest.mark.parametrize(("allowed", "is_let_in"), [("", True), ("client", True), ("other", False)])
def test_only_the_right_client_certificate_shows_the_page(
    authority: Authority, served: Callable[..., Program], tmp_path: Path, allowed: str, *, is_let_in: bool
) -> None:
    program = served({"STTR_SERVER_CLIENTCAFILE": str(authority.cert), "STTR_SERVER_CLIENTNAMES": allowed})
    trust(tmp_path, authority.cert)
    identify(tmp_path, authority.issue("client"))
    with browser(tmp_path) as running:
        text = look(running, program)
        assert ("wave" in text) is is_let_in
        assert ("client certificate" in text) is not is_let_in
        if is_let_in:
            # The scripts ask with the certificate, too.
            eventually(lambda: running.find_elements(By.CSS_SELECTOR, "figure canvas"), within=20)


def test_a_client_certificate_of_an_unknown_authority_shows_nothing(
    authority: Authority, served: Callable[..., Program], tmp_path: Path
) -> None:
    program = served({"STTR_SERVER_CLIENTCAFILE": str(authority.cert)})
    trust(tmp_path, authority.cert)
    identify(tmp_path, Authority(tmp_path / "other").issue("client"))
    with browser(tmp_path) as running:
        try:
            text = look(running, program)  # the browser's own page about the error
        except WebDriverException as error:  # or none
            text = str(error)
        assert "ERR_" in text
        assert "wave" not in text
    eventually(lambda: "refused by what STTR_SERVER_CLIENTCAFILE trusts" in program.output)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (basic(), 200),
        (bearer(), 200),
        (basic("prom", "wrong"), 401),
        (basic("nobody"), 401),
        (bearer("geheim-token-wrong-wrong"), 401),
        ({}, 401),
    ],
)
def test_only_right_credentials_show_the_page(
    chrome: Chrome, served: Callable[..., Program], tmp_path: Path, headers: Mapping[str, str], status: int
) -> None:
    program = served(settings(tmp_path))
    logged(chrome, "performance")
    # Who is refused is asked for a password: there is no page then.
    assert ("wave" in look(chrome, program, headers=headers)) is (status == 200)
    assert status in eventually(lambda: statuses(chrome))


def test_a_user_who_was_asked_sees_the_plots_too(
    chrome: Chrome, served: Callable[..., Program], tmp_path: Path
) -> None:
    program = served(settings(tmp_path))
    assert "wave" in look(chrome, program, user="prom:correct%20horse@")
    # The scripts ask with the credentials that the browser has been given.
    eventually(lambda: chrome.find_elements(By.CSS_SELECTOR, "figure canvas"), within=20)
