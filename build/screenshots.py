"""Writes the pictures of the page in docs/: ``python build/screenshots.py``. It takes a good minute.

They are of a real service, registered with a real Consul, in the browser that the tests use.
"""

import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from selenium.webdriver import Chrome

from tests.integration.programs import Consul
from tests.program import Program
from tests.web.status.browser import browser, command, resize

FOLDER = Path(__file__).parents[1] / "docs"
# A release's version, so that the pictures are the same from commit to commit.
START = "import stator.version as v; v.__version__ = '1.0.0'; from stator.main import run; raise SystemExit(run())"
SETTINGS = {
    "STTR_ROSTER_SERVICE_NAME": "shop",
    "STTR_ROSTER_SERVICE_ID": "berlin-1",
    "STTR_SERVER_WORKERS": "2",
    "STTR_MONITOR_CHECKS": "disk=exec:true,queue=exec:true",
}
WATCHED = 75  # seconds, a period of the wave and more
WIDE, PHONE = (1000, 940), (380, 900)


def main() -> None:
    """Takes the pictures."""
    with TemporaryDirectory() as temporary:
        consul, service, profile = (Path(temporary, name) for name in ("consul", "service", "browser"))
        for folder in (consul, service, profile):
            folder.mkdir()
        with Consul(consul) as agent:
            env = {**SETTINGS, "STTR_CLIENT_BASEURI": agent.url}
            with Program(env, service, command=(sys.executable, "-c", START)) as stator, browser(profile) as chrome:
                stator.wait_for("registered")
                resize(chrome, *WIDE)
                chrome.get(f"http://127.0.0.1:{stator.port}/")
                time.sleep(WATCHED)
                take(chrome, "page-light.png")
                command(
                    chrome, "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}]
                )
                take(chrome, "page-dark.png")
                command(chrome, "Emulation.setEmulatedMedia", features=[])
                resize(chrome, *PHONE)
                take(chrome, "page-phone.png")


def take(chrome: Chrome, name: str) -> None:
    """Writes one picture, once all of it is drawn again."""
    time.sleep(2)
    chrome.save_screenshot(str(FOLDER / name))
    sys.stdout.write(f"wrote docs/{name}\n")


if __name__ == "__main__":
    main()
