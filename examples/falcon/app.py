"""A shop on Falcon: gunicorn --workers 4 app:app."""

import logging

import stator

stator.configure_logging(service="shop")
stator.share_metrics()

import falcon  # noqa: E402 # metrics that are made from here on are shared by all workers
from prometheus_client import Counter  # noqa: E402

ORDERS = Counter("shop_orders", "Orders taken, by item", ["item"])
ITEMS = {"apple": 0.5, "pear": 0.7}
log = logging.getLogger("shop")


class Home:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.media = {"shop": "open"}


class Item:
    def on_get(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        if name not in ITEMS:
            raise falcon.HTTPNotFound
        response.media = {name: ITEMS[name]}


class Orders:
    def on_post(self, _request: falcon.Request, response: falcon.Response, name: str) -> None:
        if name not in ITEMS:
            raise ValueError(name)
        ORDERS.labels(name).inc()
        log.info("order taken", extra={"item": name})
        response.media = {"ordered": name}


def has_stock() -> bool:
    return bool(ITEMS)


api = falcon.App()
api.add_route("/", Home())
api.add_route("/items/{name}", Item())
api.add_route("/orders/{name}", Orders())

observability = stator.Stator(service="shop", collectors=["runtime", "prometheus_client"], checks={"stock": has_stock})
app = observability.wsgi_app(api)
