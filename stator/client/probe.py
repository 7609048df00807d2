"""Probes whether a service on this host answers."""

from collections.abc import Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from stator.client.errors import ClientError

USER_AGENT = "stator-probe"  # of requests by which we watch ourselves: the request log logs them at debug


def is_ready(url: str, timeout: float = 1.0, headers: Mapping[str, str] | None = None) -> bool:
    """Whether a GET is answered with status 200 within some seconds; over HTTPS any certificate is accepted."""
    from stator.client.client import Client, Request
    from stator.client.transport import tls_context

    uri = urlsplit(url)
    client = Client(uri, lambda: tls_context(skip_verify=True), timeout=timeout, timeout_short=timeout)
    try:
        response = client.send(
            Request("GET", uri, {"User-Agent": USER_AGENT, "Connection": "close", **(headers or {})})
        )
    except ClientError:
        return False
    return response.status == HTTPStatus.OK
