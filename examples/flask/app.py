"""A shop on Flask: gunicorn --workers 4 app:app."""

import logging

import stator

stator.configure_logging(service="shop")
stator.share_metrics()

from flask import Flask, abort  # noqa: E402 # metrics that are made from here on are shared by all workers
from prometheus_client import Counter  # noqa: E402

ORDERS = Counter("shop_orders", "Orders taken, by item", ["item"])
ITEMS = {"apple": 0.5, "pear": 0.7}
log = logging.getLogger("shop")

app = Flask(__name__)


@app.get("/")
def home() -> dict[str, str]:
    return {"shop": "open"}


@app.get("/items/<name>")
def item(name: str) -> dict[str, float]:
    if name not in ITEMS:
        abort(404)
    return {name: ITEMS[name]}


@app.post("/orders/<name>")
def order(name: str) -> dict[str, str]:
    if name not in ITEMS:
        raise ValueError(name)
    ORDERS.labels(name).inc()
    log.info("order taken", extra={"item": name})
    return {"ordered": name}


def has_stock() -> bool:
    return bool(ITEMS)


observability = stator.Stator(service="shop", collectors=["runtime", "prometheus_client"], checks={"stock": has_stock})
app.wsgi_app = observability.wsgi_app(app.wsgi_app)  # type: ignore[method-assign] # as Flask's docs wrap an application
