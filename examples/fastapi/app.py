"""A shop on FastAPI: uvicorn app:app --workers 4."""

import logging

import stator

stator.configure_logging(service="shop")
stator.share_metrics()

from fastapi import FastAPI, HTTPException  # noqa: E402 # metrics that are made from here on are shared by all workers
from prometheus_client import Counter  # noqa: E402

ORDERS = Counter("shop_orders", "Orders taken, by item", ["item"])
ITEMS = {"apple": 0.5, "pear": 0.7}
log = logging.getLogger("shop")

api = FastAPI()


@api.get("/")
async def home() -> dict[str, str]:
    return {"shop": "open"}


@api.get("/items/{name}")
async def item(name: str) -> dict[str, float]:
    if name not in ITEMS:
        raise HTTPException(404)
    return {name: ITEMS[name]}


@api.post("/orders/{name}")
def order(name: str) -> dict[str, str]:
    if name not in ITEMS:
        raise ValueError(name)
    ORDERS.labels(name).inc()
    log.info("order taken", extra={"item": name})
    return {"ordered": name}


def has_stock() -> bool:
    return bool(ITEMS)


observability = stator.Stator(service="shop", collectors=["runtime", "prometheus_client"], checks={"stock": has_stock})
app = observability.asgi_app(api)
