"""The page as people see it: in a real browser, with and without scripts, by keyboard and by screen reader."""

import math
import socket
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from stator.collectors.wave import PERIOD
from tests.integration.programs import free_ports, program_path
from tests.program import Program, eventually
from tests.web.status.browser import browser, command, events, logged, resize

# What a plot holds: its times, and its values by series.
DATA = """
const plot = [...document.querySelectorAll("figure")].find((each) => each.plot.name === arguments[0])?.plot;
return plot ? [plot.times, Object.fromEntries(plot.lines)] : null;
"""
PHONE = (380, 800)


@pytest.fixture(scope="module")
def stator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    env = {
        "STTR_SERVER_WORKERS": "2",
        "STTR_COLLECTORS": "runtime,wave,diskusage",
        "STTR_MONITOR_CHECKS": "disk=exec:true,db=tcp://127.0.0.1:9",
    }
    with Program(env, tmp_path_factory.mktemp("stator")) as running:
        yield running


@pytest.fixture(scope="module")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    program_path("chromium")
    with browser(tmp_path_factory.mktemp("browser")) as running:
        yield running


@pytest.fixture
def page(chrome: Chrome, stator: Program) -> Chrome:
    """The page, with its first plots, of which each has some values."""
    for log in ("browser", "performance"):
        logged(chrome, log)  # what was logged before is not of this page
    resize(chrome, 1280, 900)
    chrome.get("about:blank")
    chrome.get(f"http://127.0.0.1:{stator.port}/")
    eventually(lambda: drawn(chrome, "wave_sine") and len(drawn(chrome, "wave_sine")[0]) >= 3, within=30)
    return chrome


def drawn(chrome: Chrome, family: str) -> Any:
    return chrome.execute_script(DATA, family)


def figures(chrome: Chrome) -> list[str]:
    return [each.text for each in chrome.find_elements(By.CSS_SELECTOR, "figure h3")]


def test_the_plots_move_and_the_drawn_wave_is_the_wave(page: Chrome, stator: Program) -> None:
    times, lines = drawn(page, "wave_sine")
    longer = eventually(lambda: len(drawn(page, "wave_sine")[0]) >= len(times) + 2, within=20)
    assert longer
    times, lines = drawn(page, "wave_sine")
    assert times == sorted(times)
    assert lines.keys() == {"simple", "three_random", "square"}
    for time, value in zip(times, lines["simple"], strict=True):
        assert value == pytest.approx(math.sin(2 * math.pi * math.fmod(time, PERIOD) / PERIOD), abs=1e-2)
    # What /metrics answers at some time lies between the values that were drawn before and after it.
    line = next(
        line
        for line in stator.get("/metrics?collect[]=wave").body.decode().splitlines()
        if line.startswith('wave_sine{name="three_random"}')
    )
    _, value, stamp = line.split()
    moment = float(stamp) / 1000
    eventually(lambda: drawn(page, "wave_sine")[0][-1] > moment, within=20)
    times, lines = drawn(page, "wave_sine")
    after = next(nth for nth, time in enumerate(times) if time > moment)
    around = lines["three_random"][after - 1 : after + 1]
    assert min(around) - 0.02 <= float(value) <= max(around) + 0.02


def test_the_canvas_shows_what_the_plot_holds(page: Chrome) -> None:
    before = page.execute_script("return document.querySelector('figure canvas').toDataURL()")
    assert eventually(
        lambda: page.execute_script("return document.querySelector('figure canvas').toDataURL()") != before, within=20
    )


def test_of_a_counter_the_rate_is_drawn_with_its_unit(page: Chrome) -> None:
    name = "pyrt_cpu_user_seconds_total"
    eventually(lambda: any(value is not None for value in next(iter(drawn(page, name)[1].values()))), within=20)
    _, lines = drawn(page, name)
    values = [value for line in lines.values() for value in line if value is not None]
    assert all(0 <= value < 8 for value in values)  # CPUs, and not the seconds since the start
    figure = next(each for each in page.find_elements(By.TAG_NAME, "figure") if name in each.text)
    assert "rate" in figure.text
    assert figure.find_element(By.TAG_NAME, "output").text.endswith("%")


def test_who_looks_costs_only_the_collectors_that_are_drawn(page: Chrome, stator: Program) -> None:
    for name in figures(page):
        if name != "wave_sine":
            page.find_element(By.CSS_SELECTOR, f'[aria-label="Remove {name}"]').click()
    assert figures(page) == ["wave_sine"]
    count = len(asked(stator))
    eventually(lambda: len(asked(stator)) >= count + 3, within=20)
    assert set(asked(stator)[count + 1 :]) == {'{"collect[]":["wave"]}'}


def asked(stator: Program) -> list[str]:
    """The queries of scrapes, in their order."""
    return [line["query"] for line in stator.lines("received request", path="/metrics")]


def test_another_family_can_be_picked_by_keyboard_and_a_reload_shows_it_again(page: Chrome) -> None:
    picker = page.find_element(By.ID, "family")
    assert {each.get_attribute("label") for each in picker.find_elements(By.TAG_NAME, "optgroup")} >= {
        "runtime",
        "wave",
        "diskusage",
    }
    Select(picker).select_by_value("pyrt_threads")
    eventually(lambda: "pyrt_threads" in figures(page))
    assert page.current_url.endswith(",pyrt_threads")
    page.refresh()
    eventually(lambda: "pyrt_threads" in figures(page), within=20)


def test_a_pause_stops_all_that_moves(page: Chrome, stator: Program) -> None:
    button = page.find_element(By.ID, "pause")
    button.send_keys(Keys.ENTER)
    assert (button.text, button.get_attribute("aria-pressed")) == ("Resume", "true")
    # One that was under way may still come.
    page.execute_async_script("setTimeout(arguments[0], 1500)")
    before, count = drawn(page, "wave_sine"), len(asked(stator))
    page.execute_async_script("setTimeout(arguments[0], 2500)")
    assert drawn(page, "wave_sine") == before
    assert len(asked(stator)) == count
    button.send_keys(Keys.SPACE)
    eventually(lambda: drawn(page, "wave_sine") != before, within=20)


def test_arrows_move_the_cursor_and_what_it_shows_is_said(page: Chrome) -> None:
    page.find_element(By.ID, "pause").click()
    drawing = page.find_element(By.CSS_SELECTOR, "figure .drawing")
    drawing.send_keys(Keys.HOME)
    said = page.find_element(By.ID, "said")
    first = said.get_attribute("textContent")
    assert first is not None
    assert "simple" in first
    drawing.send_keys(Keys.ARROW_RIGHT)
    assert said.get_attribute("textContent") != first
    times, lines = drawn(page, "wave_sine")
    assert len(times) > 1
    (shown,) = page.execute_script("return [...document.querySelectorAll('figure output')].slice(0, 1)")
    assert float(shown.text) == pytest.approx(lines["simple"][1], abs=5e-3)
    drawing.send_keys(Keys.ESCAPE)
    assert float(shown.text) == pytest.approx(lines["simple"][-1], abs=5e-3)


def test_a_line_can_be_hidden_and_shown_again_by_its_entry_in_the_legend(page: Chrome) -> None:
    entry = page.find_element(By.CSS_SELECTOR, ".legend button")
    entry.send_keys(Keys.SPACE)
    assert entry.get_attribute("aria-pressed") == "false"
    eventually(lambda: "simple" not in described(page))
    entry.send_keys(Keys.SPACE)
    assert entry.get_attribute("aria-pressed") == "true"


def described(page: Chrome) -> str:
    return page.find_element(By.CSS_SELECTOR, "figure .drawing").get_attribute("aria-label") or ""


def test_each_control_is_reached_by_tab_in_the_order_in_which_it_stands(page: Chrome) -> None:
    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    reached = []
    for _ in range(12):
        page.switch_to.active_element.send_keys(Keys.TAB)
        active = page.switch_to.active_element
        reached.append(active.get_attribute("id") or active.get_attribute("class") or active.text)
        if active.get_attribute("class") == "drawing":
            break
    wanted = ["skip", "/metrics", "/monitor", "/status", "/config", "family", "span", "pause", "remove", "drawing"]
    assert reached == wanted


def accessible(page: Chrome) -> list[tuple[str, str]]:
    """Roles and names of all that a screen reader finds."""
    command(page, "Accessibility.enable")
    nodes = command(page, "Accessibility.getFullAXTree")["nodes"]
    command(page, "Accessibility.disable")
    return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes if not node["ignored"]]


def test_a_screen_reader_finds_landmarks_headings_tables_and_names(page: Chrome) -> None:
    found = accessible(page)
    roles = [role for role, _ in found]
    assert {"banner", "main", "navigation", "contentinfo", "status"} <= set(roles)
    assert {("heading", "Live"), ("heading", "Collectors"), ("heading", "Health checks")} <= set(found)
    assert ("table", "Processes of the service") in found
    assert ("columnheader", "Memory") in found
    assert ("rowheader", "wave") in found
    assert any(role == "image" and name.startswith("wave_sine: ") and "simple" in name for role, name in found)
    assert {"button", "combobox", "link", "figure"} <= set(roles)
    assert [role for role, name in found if role in ("button", "combobox", "link", "image", "table") and not name] == []


def test_nothing_is_on_the_console_and_nobody_else_is_asked(page: Chrome, stator: Program) -> None:
    eventually(lambda: len(drawn(page, "wave_sine")[0]) >= 6, within=20)
    assert logged(page, "browser") == []
    urls = [each["request"]["url"] for each in events(page, "Network.requestWillBeSent")]
    ours = f"http://127.0.0.1:{stator.port}/"
    assert len(urls) > 10
    assert [url for url in urls if not url.startswith((ours, "data:", "about:"))] == []


def test_the_policy_blocks_an_injected_script_and_style(page: Chrome) -> None:
    page.execute_script(
        """
        const script = document.createElement("script");
        script.textContent = "document.title = 'injected'";
        document.body.append(script);
        document.body.insertAdjacentHTML("beforeend", "<p id=injected style='color: red' onclick='alert(1)'>x</p>");
        const frame = document.createElement("iframe");
        frame.src = "/metrics";
        document.body.append(frame);
        """
    )
    assert "injected" not in page.title
    assert page.find_element(By.ID, "injected").value_of_css_property("color") != "rgba(255, 0, 0, 1)"
    refused = " ".join(entry["message"] for entry in logged(page, "browser"))
    for directive in ("script-src", "style-src", "default-src"):
        assert directive in refused


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_texts_are_easily_read_in_light_and_in_dark(page: Chrome, dark: bool) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    command(page, "Emulation.setEmulatedMedia", features=[scheme])
    try:
        background = luminance(page.execute_script("return getComputedStyle(document.body).backgroundColor"))
        assert (background < 0.1) == dark
        for selector in ("body", ".unit", "thead th", "nav a", ".state", ".legend .name"):
            for element in page.find_elements(By.CSS_SELECTOR, selector):
                low, high = sorted((luminance(element.value_of_css_property("color")), background))
                assert (high + 0.05) / (low + 0.05) >= 4.5, selector  # https://www.w3.org/TR/WCAG22/#contrast-minimum
    finally:
        command(page, "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "light"}])


def luminance(colour: str) -> float:
    """The relative luminance of an rgb() colour: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_on_a_phone_nothing_is_wider_than_the_screen(page: Chrome) -> None:
    resize(page, *PHONE)
    assert eventually(lambda: page.execute_script("return document.documentElement.scrollWidth <= innerWidth"))
    edges = "return [...document.querySelectorAll('main td, main dd, .plot, .drawing, .legend button, select, h3')]"
    eventually(lambda: max(page.execute_script(f"{edges}.map((each) => each.getBoundingClientRect().right)")) <= 380)
    # Rows are blocks there, and tables all the same.
    found = accessible(page)
    assert ("table", "Processes of the service") in found
    assert {("columnheader", "Memory"), ("rowheader", "wave")} <= set(found)
    assert any(role == "cell" and name.endswith("MiB") for role, name in found)


def test_without_scripts_all_tables_are_there(stator: Program, tmp_path: Path) -> None:
    program_path("chromium")
    with browser(tmp_path, scripts=False) as chrome:
        chrome.get(f"http://127.0.0.1:{stator.port}/")
        captions = [each.get_attribute("textContent") for each in chrome.find_elements(By.TAG_NAME, "caption")]
        assert len(captions) == 3
        rows = chrome.find_elements(By.CSS_SELECTOR, "#processes tbody tr")
        assert len(rows) == 4
        assert all(row.is_displayed() for row in rows)
        note = chrome.find_element(By.CSS_SELECTOR, "noscript p")
        assert "Live plots need JavaScript" in (note.get_attribute("textContent") or "")
        assert note.rect["height"] > 10
        assert not chrome.find_element(By.ID, "controls").is_displayed()


SLOW = """
import time


class Slow:
    def collect(self, now):
        time.sleep(3600)
        yield from ()
"""


def test_a_collector_that_hangs_holds_up_no_plot(chrome: Chrome, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(SLOW)
    env = {"STTR_COLLECTORS": "wave,slow", "STTR_PLUGINS_PATH": str(tmp_path), "STTR_METRICS_TIMEOUT": "3s"}
    with Program(env, tmp_path) as stator:
        chrome.get(f"http://127.0.0.1:{stator.port}/")
        eventually(lambda: drawn(chrome, "wave_sine") and len(drawn(chrome, "wave_sine")[0]) >= 3, within=30)
        failing = "return document.querySelector('#collectors').textContent.includes('fails')"
        eventually(lambda: chrome.execute_script(failing), within=30)
        assert figures(chrome) == ["wave_sine"]


def test_a_service_that_is_gone_is_said_to_be_and_taken_up_again_when_it_is_back(
    chrome: Chrome, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    env = {"STTR_COLLECTORS": "wave", "STTR_SERVER_PORT": str(port)}
    is_lost = "return getComputedStyle(document.body, '::before').content.includes('does not answer')"
    with Program(env, tmp_path) as first:
        first.wait_for("ready")
        chrome.get(f"http://127.0.0.1:{port}/")
        eventually(lambda: drawn(chrome, "wave_sine"), within=20)
        assert not chrome.execute_script(is_lost)
    eventually(lambda: chrome.execute_script(is_lost), within=20)
    length = len(drawn(chrome, "wave_sine")[0])
    with Program(env, tmp_path) as second:
        second.wait_for("ready")
        eventually(lambda: not chrome.execute_script(is_lost), within=20)
        eventually(lambda: len(drawn(chrome, "wave_sine")[0]) > length + 2, within=20)


HISTOGRAM = """
# TYPE job_seconds histogram
job_seconds_bucket{{le="0.1"}} {fast}
job_seconds_bucket{{le="0.5"}} {all}
job_seconds_bucket{{le="+Inf"}} {all}
job_seconds_sum {sum}
job_seconds_count {all}
# TYPE text gauge
text{{a="<img src=x onerror=alert(1)>",b="say \\"hi\\", {{c}}"}} 1
"""


def test_of_a_histogram_quantiles_and_the_mean_are_drawn_and_no_label_is_html(chrome: Chrome, tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()

    def write(times: int) -> None:
        text = HISTOGRAM.format(fast=5 * times, all=10 * times, sum=2.5 * times)
        (folder / "new").write_text(text)
        (folder / "new").rename(folder / "jobs.prom")

    write(1)
    with Program({"STTR_COLLECTORS": "textfile", "STTR_TEXTFILE_PATHS": str(folder)}, tmp_path) as stator:
        chrome.get(f"http://127.0.0.1:{stator.port}/#job_seconds,text")
        eventually(lambda: drawn(chrome, "job_seconds"), within=20)
        times = count(2)

        def has_mean() -> bool:
            write(next(times))
            return any(drawn(chrome, "job_seconds")[1]["mean"])

        eventually(has_mean, within=20)
        _, lines = drawn(chrome, "job_seconds")
        last = {name: next(value for value in values if value is not None) for name, values in lines.items()}
        assert last == {
            "mean": pytest.approx(0.25),
            "50 %": pytest.approx(0.1),
            "90 %": pytest.approx(0.42),
            "99 %": pytest.approx(0.492),
        }
        assert drawn(chrome, "text")[1].keys() == {'a=<img src=x onerror=alert(1)> b=say "hi", {c}'}
        assert not chrome.find_elements(By.CSS_SELECTOR, "main img")
        assert chrome.find_element(By.TAG_NAME, "output").text == "250 ms"


NGINX = """
daemon off;
master_process off;
pid nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi;
    scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; location /services/shop/ {{ proxy_pass http://127.0.0.1:{upstream}/; }} }}
}}
"""


def test_below_a_path_of_a_proxys_it_works_the_same(chrome: Chrome, stator: Program, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    nginx = program_path("nginx")
    (tmp_path / "nginx.conf").write_text(NGINX.format(port=port, upstream=stator.port))
    with subprocess.Popen([nginx, "-p", tmp_path, "-c", tmp_path / "nginx.conf", "-e", "stderr"]) as proxy:
        try:
            eventually(lambda: is_open(port))
            logged(chrome, "browser")
            chrome.get(f"http://127.0.0.1:{port}/services/shop/")
            eventually(lambda: drawn(chrome, "wave_sine") and len(drawn(chrome, "wave_sine")[0]) >= 3, within=30)
            links = [each.get_attribute("href") for each in chrome.find_elements(By.CSS_SELECTOR, "nav a")]
            assert links[0] == f"http://127.0.0.1:{port}/services/shop/metrics"
            assert logged(chrome, "browser") == []
        finally:
            chrome.get("about:blank")
            proxy.kill()


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
