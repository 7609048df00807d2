"""What an application can know of a connection's TLS."""

import ssl
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

# https://asgi.readthedocs.io/en/latest/specs/tls.html
VERSIONS = {"TLSv1": 0x0301, "TLSv1.1": 0x0302, "TLSv1.2": 0x0303, "TLSv1.3": 0x0304}
# RFC 4514, section 3
_SHORT_NAMES = {
    "commonName": "CN",
    "countryName": "C",
    "domainComponent": "DC",
    "localityName": "L",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "stateOrProvinceName": "ST",
    "streetAddress": "STREET",
    "userId": "UID",
}
_SPECIAL = str.maketrans({each: f"\\{each}" for each in '"+,;<>\\'})


def tls_extension(tls: ssl.SSLObject) -> dict[str, Any]:
    """Returns ASGI's TLS extension of a connection, and beside it `client_cert_names`: all names of the client."""
    certificate: dict[str, Any] = tls.getpeercert() or {}
    der = tls.getpeercert(binary_form=True) if certificate else None
    return {
        "server_cert": None,
        "client_cert_chain": [ssl.DER_cert_to_PEM_cert(der)] if der else [],
        "client_cert_name": distinguished_name(certificate) if certificate else None,
        "client_cert_error": None,
        "tls_version": VERSIONS.get(tls.version() or ""),
        "cipher_suite": None,
        "client_cert_names": [*names(certificate)],
    }


def names(certificate: dict[str, Any]) -> Iterator[str]:
    """Yields the common names and the alternative names of a certificate, as ssl has it."""
    yield from (value for part in certificate.get("subject", ()) for key, value in part if key == "commonName")
    yield from alternative_names(certificate)


def alternative_names(certificate: Mapping[str, Any]) -> Iterator[str]:
    """Yields the alternative names of a certificate, addresses as they are usually written."""
    for kind, value in certificate.get("subjectAltName", ()):
        if kind == "IP Address":
            yield str(ip_address(value.strip()))
        elif kind in ("DNS", "URI", "email"):
            yield value


def distinguished_name(certificate: dict[str, Any]) -> str:
    """Returns the subject of a certificate as RFC 4514 writes it: ``CN=shop,O=Example``."""
    parts = reversed(certificate.get("subject", ()))
    named = ([(_SHORT_NAMES.get(key, key), value) for key, value in part] for part in parts)
    return ",".join("+".join(f"{name}={_escaped(value)}" for name, value in part) for part in named)


def _escaped(value: str) -> str:
    text = value.translate(_SPECIAL)
    text = f"\\{text}" if text[:1] in (" ", "#") else text
    return f"{text[:-1]}\\ " if len(text) > 1 and text.endswith(" ") else text
