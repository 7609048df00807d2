"""A shop on Django: gunicorn --workers 4 app:application."""

import logging

import stator

stator.configure_logging(service="shop")
stator.share_metrics()

from django.conf import settings  # noqa: E402 # metrics that are made from here on are shared by all workers
from django.core.wsgi import get_wsgi_application  # noqa: E402
from django.http import Http404, HttpRequest, JsonResponse  # noqa: E402
from django.urls import path  # noqa: E402
from prometheus_client import Counter  # noqa: E402

ORDERS = Counter("shop_orders", "Orders taken, by item", ["item"])
ITEMS = {"apple": 0.5, "pear": 0.7}
log = logging.getLogger("shop")


def home(_request: HttpRequest) -> JsonResponse:
    return JsonResponse({"shop": "open"})


def item(_request: HttpRequest, name: str) -> JsonResponse:
    if name not in ITEMS:
        raise Http404
    return JsonResponse({name: ITEMS[name]})


def order(_request: HttpRequest, name: str) -> JsonResponse:
    if name not in ITEMS:
        raise ValueError(name)
    ORDERS.labels(name).inc()
    log.info("order taken", extra={"item": name})
    return JsonResponse({"ordered": name})


def has_stock() -> bool:
    return bool(ITEMS)


urlpatterns = [path("", home), path("items/<name>", item), path("orders/<name>", order)]
# In a project of its own these are in settings.py, and the rest in wsgi.py.
settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, LOGGING_CONFIG=None)

observability = stator.Stator(service="shop", collectors=["runtime", "prometheus_client"], checks={"stock": has_stock})
application = observability.wsgi_app(get_wsgi_application())
