"""A real browser: Debian's Chromium without a window, driven by selenium."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509 import load_pem_x509_certificates
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.certificates import Certificate
from tests.integration.fetch import PEERS

CHROMIUM = PEERS["chromium"]
# It has the fonts that came with it, and none of this machine's: a page looks the same everywhere.
FONTS = """\
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{fonts}</dir><cachedir>{cache}</cachedir></fontconfig>
"""
ANY_CERTIFICATE = '{"pattern": "*", "filter": {}}'


@contextmanager
def browser(
    folder: Path, *, size: tuple[int, int] = (1280, 900), dark: bool = False, scripts: bool = True
) -> Iterator[webdriver.Chrome]:
    """A browser with an empty profile.

    Args:
        folder: Where its files go.
        size: Of the page, in CSS pixels.
        dark: Whether its user prefers dark pages.
        scripts: Whether it runs JavaScript.
    """
    program, driver = CHROMIUM.find(), CHROMIUM.folder / "usr/bin/chromedriver"
    assert program is not None
    fonts = folder / "fonts.conf"
    fonts.write_text(FONTS.format(fonts=CHROMIUM.folder / "usr/share/fonts", cache=folder / "fonts"))
    options = Options()
    options.binary_location = str(program)
    options.accept_insecure_certs = False
    for argument in (
        "--headless=new",
        "--no-sandbox",  # which needs a user other than root, and namespaces
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-proxy-server",
        "--hide-scrollbars",
        "--force-device-scale-factor=1",
        f"--user-data-dir={folder / 'profile'}",
    ):
        options.add_argument(argument)
    # A user would choose among the certificates: https://chromeenterprise.google/policies/#AutoSelectCertificateForUrls
    options.add_experimental_option("prefs", {"profile.managed_auto_select_certificate_for_urls": [ANY_CERTIFICATE]})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    environ = {**CHROMIUM.environ(), "FONTCONFIG_FILE": str(fonts), "HOME": str(folder), "no_proxy": "*"}
    service = Service(str(driver), env=environ, log_output=str(folder / "chromedriver.log"))
    chrome = webdriver.Chrome(options=options, service=service)
    try:
        chrome.set_page_load_timeout(30)
        scheme = "dark" if dark else "light"
        command(chrome, "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        command(chrome, "Emulation.setScriptExecutionDisabled", value=not scripts)
        resize(chrome, *size)
        yield chrome
    finally:
        chrome.quit()


def trust(folder: Path, authority: Path) -> None:
    """Makes a browser that is started in the folder later trust the certificates of an authority."""
    _nss("certutil", folder, "-A", "-t", "C,,", "-n", "authority", "-i", authority)


def identify(folder: Path, certificate: Certificate) -> None:
    """Gives a browser that is started in the folder later a client certificate."""
    key = load_pem_private_key(certificate.key.read_bytes(), password=None)
    assert isinstance(key, EllipticCurvePrivateKey)
    cert, *chain = load_pem_x509_certificates(certificate.cert.read_bytes())
    both = folder / "client.p12"
    both.write_bytes(serialize_key_and_certificates(b"client", key, cert, chain, BestAvailableEncryption(b"secret")))
    _nss("pk12util", folder, "-W", "secret", "-i", both)


def _nss(program: str, folder: Path, *arguments: str | Path) -> None:
    """Runs a program on the certificates of the browser, which are a database in the home folder of its user."""
    database = folder / ".pki/nssdb"
    commands: list[tuple[str, ...]] = [(program, *map(str, arguments))]
    if not database.exists():
        database.mkdir(parents=True)
        commands.insert(0, ("certutil", "-N", "--empty-password"))
    for name, *rest in commands:
        path = CHROMIUM.folder / "usr/bin" / name
        subprocess.run([path, *rest, "-d", f"sql:{database}"], env=CHROMIUM.environ(), check=True)


def command(chrome: webdriver.Chrome, name: str, **parameters: Any) -> Any:
    """Gives a command of the devtools protocol: https://chromedevtools.github.io/devtools-protocol/."""
    return chrome.execute_cdp_cmd(name, parameters)


def resize(chrome: webdriver.Chrome, width: int, height: int) -> None:
    """Gives the page another size, in CSS pixels; below 500 a phone's."""
    command(
        chrome,
        "Emulation.setDeviceMetricsOverride",
        width=width,
        height=height,
        deviceScaleFactor=1,
        mobile=width < 500,
    )


def logged(chrome: webdriver.Chrome, log: str) -> list[dict[str, Any]]:
    """Gives what was logged since the last call: ``browser`` is the console, ``performance`` the devtools' events."""
    entries: list[dict[str, Any]] = chrome.get_log(log)  # type: ignore[no-untyped-call]
    return entries


def events(chrome: webdriver.Chrome, method: str) -> list[dict[str, Any]]:
    """Gives the parameters of the devtools' events of one method since the last call, which takes those of all."""
    logs = (json.loads(entry["message"])["message"] for entry in logged(chrome, "performance"))
    return [each["params"] for each in logs if each["method"] == method]
