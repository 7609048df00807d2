"""Applications that are registered with a real Consul for as long as they run, as the docs show."""

import signal
from typing import Any

import psutil

from tests.embedding.applications import FLASK, gunicorn, uvicorn
from tests.embedding.registering import GUNICORN_CONF, LIFESPAN, Shops
from tests.program import eventually


def with_check(code: str) -> str:
    """An application with a health check."""
    checked = code.replace("asgi_app()", "asgi_app(checks={'db': ping_db})")
    return checked.replace("import stator", "import stator\nfrom shop import ping_db")


def test_an_application_is_registered_while_it_runs(shop: Shops) -> None:
    served = shop.start(LIFESPAN, uvicorn())
    registered = eventually(shop.registered)
    assert registered is not None
    assert registered["Port"] == served.port
    served.stop()
    assert "Application shutdown complete" in served.errors
    assert shop.registered() is None


def test_consul_shows_which_check_fails(shop: Shops) -> None:
    served = shop.start(with_check(LIFESPAN), uvicorn())

    def check() -> Any:
        return next(iter(shop.consul.checks().values()), {"Status": "", "Output": ""})

    eventually(lambda: "200 OK" in check()["Output"])
    served.let("db", "raise")
    eventually(lambda: check()["Status"] == "critical")
    assert "no route to" in check()["Output"]


def test_replacing_a_worker_unregisters_nothing(shop: Shops) -> None:
    served = shop.start(LIFESPAN, uvicorn("--workers=2"))
    eventually(lambda: served.errors.count("Application startup complete") == 2)
    before = eventually(shop.registered)
    (worker, _) = [each for each in psutil.Process(served.pid).children() if "spawn_main" in " ".join(each.cmdline())]
    worker.send_signal(signal.SIGTERM)
    worker.wait(10)
    assert shop.registered() == before
    eventually(lambda: served.errors.count("Application startup complete") == 3)
    assert shop.registered() == before
    served.stop()
    eventually(lambda: shop.registered() is None)


def test_gunicorn_registers_once_for_all_of_its_workers(shop: Shops) -> None:
    served = shop.start(FLASK, gunicorn("--workers=2", "--preload"), GUNICORN_CONF)
    before = eventually(shop.registered)
    worker = psutil.Process(served.pid).children()[0]
    worker.kill()
    eventually(lambda: len(psutil.Process(served.pid).children()) == 2 and not worker.is_running())
    eventually(lambda: served.monitor().status == 200)
    assert shop.registered() == before
    served.stop()
    assert shop.registered() is None


def test_nothing_is_registered_before_all_checks_pass(shop: Shops) -> None:
    served = shop.start(with_check(LIFESPAN), uvicorn(), {"check-db": "raise"})
    eventually(lambda: served.asked("db") > 3)
    assert shop.registered() is None
    served.let("db", "pass")
    eventually(shop.registered)


def test_an_application_that_ends_before_it_was_registered_ends_in_order(shop: Shops) -> None:
    code = LIFESPAN.replace("/internal/monitor", "/nowhere")
    served = shop.start(code, uvicorn())
    served.stop()
    assert "Application shutdown complete" in served.errors
    assert shop.registered() is None
