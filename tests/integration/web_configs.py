"""Web configuration files, and requests by which programs that read them are compared."""

import ssl
from collections.abc import Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from itertools import product
from pathlib import Path
from typing import NamedTuple

from tests.certificates import DAY, Authority, Certificate
from tests.credentials import HASH, OTHER_HASH, OTHER_PASSWORD, basic, bearer

TLS = "tls_server_config:\n  cert_file: {cert}\n  key_file: {key}\n"
CLIENT_CA = "  client_ca_file: {ca}\n"
VERIFIED = f"{TLS}{CLIENT_CA}  client_auth_type: RequireAndVerifyClientCert\n"
USERS = f"basic_auth_users:\n  prom: {HASH}\n  other: {OTHER_HASH}\n"
HEADERS = {
    "Content-Security-Policy": "default-src 'self'",
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "deny",
    "X-XSS-Protection": "1; mode=block",
}
HTTP = "http_server_config:\n  headers:\n"
ALL_HEADERS = HTTP + "".join(f'    {name}: "{value}"\n' for name, value in HEADERS.items())
RATE = "rate_limit:\n  interval: 1h\n  burst: 7\n"
# With HTTP/2 Go wants a suite of AES-128-GCM.
WITHOUT_HTTP2 = "http_server_config: {http2: false}\n"
OLD_SUITES = "TLS_ECDHE_{}_WITH_AES_256_CBC_SHA"
CURVES = ("X25519", "CurveP256", "CurveP384", "CurveP521")
BOTH_KINDS = ("RSA", "ECDSA")


def suites(pattern: str) -> str:
    """Returns the names of a suite for both kinds of certificates."""
    return ", ".join(pattern.format(kind) for kind in BOTH_KINDS)


# Files that both programs read.
GOOD: Mapping[str, str] = {
    "empty": "",
    "nothing in the tables": "tls_server_config:\nhttp_server_config:\nbasic_auth_users:\nrate_limit:\n",
    "users": USERS,
    "no users": "basic_auth_users: {}",
    "a user without a name": f'basic_auth_users: {{"": {HASH}}}',
    **{f"the header {name}": f'{HTTP}    {name}: "{value}"\n' for name, value in HEADERS.items()},
    "all headers": ALL_HEADERS,
    "a blank header": f'{HTTP}    Content-Security-Policy: ""\n',
    "http2": "http_server_config: {http2: true}",
    "no http2": f"{TLS}http_server_config:\n  http2: no\n",
    "a rate": RATE,
    "a rate in nanoseconds": "rate_limit: {interval: 3600000000000, burst: 1}",
    "a rate without a burst": "rate_limit: {interval: 1s}",
    "no rate": "rate_limit: {interval: 0, burst: 1}",
    "a rate and users": RATE + USERS,
    "versions without a certificate": "tls_server_config: {min_version: TLS13, cipher_suites: []}",
    "TLS": TLS,
    "TLS inline": "tls_server_config:\n  cert: |\n{inline_cert}\n  key: |\n{inline_key}\n",
    "files go before texts": f"{TLS}  cert: none\n  key: none\n",
    "no client certificates": f"{TLS}  client_auth_type: NoClientCert\n",
    "client certificates if given": f"{TLS}{CLIENT_CA}  client_auth_type: VerifyClientCertIfGiven\n",
    "client certificates": VERIFIED,
    "client certificates by a text": f"{TLS}  client_ca: |\n{{inline_ca}}\n"
    "  client_auth_type: RequireAndVerifyClientCert\n",
    "allowed names": f"{VERIFIED}  client_allowed_sans: [scraper.example, nobody@example.org]\n",
    "allowed addresses": f'{VERIFIED}  client_allowed_sans: ["2001:db8::7"]\n',
    "no allowed names": f"{VERIFIED}  client_allowed_sans: []\n",
    "a common name is no alternative one": f"{VERIFIED}  client_allowed_sans: [common]\n",
    **{f"at least {version}": f"{TLS}  min_version: {version}\n" for version in ("TLS10", "TLS11", "TLS12", "TLS13")},
    **{f"at most {version}": f"{TLS}  max_version: {version}\n" for version in ("TLS12", "TLS13")},
    "one suite": f"{TLS}  cipher_suites: [{suites('TLS_ECDHE_{}_WITH_AES_128_GCM_SHA256')}]\n",
    "another suite": f"{TLS}  cipher_suites: [{suites('TLS_ECDHE_{}_WITH_CHACHA20_POLY1305_SHA256')}]\n"
    f"  prefer_server_cipher_suites: false\n{WITHOUT_HTTP2}",
    "suites of TLS 1.3 alone": f"{TLS}  cipher_suites: [TLS_AES_128_GCM_SHA256]\n{WITHOUT_HTTP2}",
    "an old suite for an old version": f"{TLS}  min_version: TLS11\n"
    f"  cipher_suites: [{suites(OLD_SUITES)}]\n{WITHOUT_HTTP2}",
    **{f"the curve {name}": f"{TLS}  curve_preferences: [{name}]\n" for name in CURVES},
    "all together": f"{VERIFIED}  client_allowed_sans: [scraper.example]\n  min_version: TLS12\n"
    f"{ALL_HEADERS}  http2: false\n{USERS}rate_limit: {{interval: 1h, burst: 20}}\n",
}
# Files that neither reads.
BAD: Mapping[str, str] = {
    "no YAML": "basic_auth_users: [",
    "a list": "- basic_auth_users",
    "an unknown table": "web: {}",
    "an unknown key": "tls_server_config: {certificate: a.pem}",
    "a key twice": "rate_limit: {burst: 1}\nrate_limit: {burst: 1}\n",
    "a user twice": f"basic_auth_users:\n  prom: {HASH}\n  prom: {HASH}\n",
    "no hash": "basic_auth_users: {prom: secret}",
    "an empty hash": "basic_auth_users: {prom: }",
    "another header": f"{HTTP}    Server: none\n",
    "a header in other letters": f"{HTTP}    x-frame-options: deny\n",
    "another value of a header": f"{HTTP}    X-Frame-Options: DENY\n",
    "a blank value of such a header": f'{HTTP}    X-Content-Type-Options: ""\n',
    "neither true nor false": "http_server_config: {http2: maybe}",
    "a burst that is none": "rate_limit: {interval: 1s, burst: some}",
    "an interval that is none": "rate_limit: {interval: 1x, burst: 1}",
    "a certificate alone": "tls_server_config: {cert_file: {cert}}",
    "a key alone": "tls_server_config: {key_file: {key}}",
    "no certificate, but a kind of clients'": "tls_server_config: {client_auth_type: NoClientCert}",
    "a missing file": "tls_server_config: {cert_file: none.pem, key_file: {key}}",
    "another's key": "tls_server_config: {cert_file: {cert}, key_file: {other_key}}",
    "authorities for nobody": f"{TLS}{CLIENT_CA}",
    "an unknown kind of clients' certificates": f"{TLS}{CLIENT_CA}  client_auth_type: Verify\n",
    "an unknown version": f"{TLS}  min_version: TLS14\n",
    "an insecure suite": f"{TLS}  cipher_suites: [TLS_RSA_WITH_RC4_128_SHA]\n",
    "an unknown suite": "tls_server_config: {cipher_suites: [AES]}",
    "an unknown curve": f"{TLS}  curve_preferences: [P256]\n",
}
# Files that exporter-toolkit reads and Stator refuses, with what its line says.
REFUSED: Mapping[str, tuple[str, str]] = {
    "certificates that nobody verifies": (
        f"{TLS}  client_auth_type: RequestClientCert\n",
        "not RequestClientCert, which would verify no certificate",
    ),
    "required certificates that nobody verifies": (
        f"{TLS}  client_auth_type: RequireAnyClientCert\n",
        "not RequireAnyClientCert, which would verify no certificate",
    ),
    "the system's authorities": (
        f"{TLS}  client_auth_type: RequireAndVerifyClientCert\n",
        "expected tls_server_config.client_ca or client_ca_file to be set",
    ),
    "a file of authorities that has none": (
        f"{TLS}  client_ca_file: {{key}}\n  client_auth_type: RequireAndVerifyClientCert\n",
        "to be a readable file of PEM certificates",
    ),
    "allowed names of nobody": (
        f"{TLS}  client_allowed_sans: [scraper.example]\n",
        "client_auth_type to be RequireAndVerifyClientCert, since client_allowed_sans is set",
    ),
    "an old version at most": (
        f"{TLS}  min_version: TLS10\n  max_version: TLS11\n",
        "max_version to be TLS12 or TLS13, not TLS11",
    ),
    "no version": (f"{TLS}  min_version: TLS13\n  max_version: TLS12\n", "min_version to be no newer than max_version"),
    "suites of another version": (
        f"{TLS}  max_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n{WITHOUT_HTTP2}",
        "cipher_suites to be some of TLS 1.2, since max_version is TLS12",
    ),
    "a negative interval": ("rate_limit: {interval: -1s, burst: 1}", "not '-1s'"),
}


class Request(NamedTuple):
    """A request, and by which client and with which credentials it is sent."""

    client: str
    credentials: str = "right"
    method: str = "GET"
    path: str = "/metrics"


CLIENTS = (
    *("http", "https", "own", "namesake", "address", "stranger", "expired"),
    *("TLS 1.1", "TLS 1.2", "TLS 1.3", "AES", "ChaCha", "P-256", "P-384"),
)
REQUESTS = (
    *map(Request, CLIENTS),
    *(Request(*each) for each in product(("http", "https", "own"), ("none", "wrong", "unknown", "second", "broken"))),
    *(
        Request(client, credentials, method, path)
        for client in ("http", "own")
        for credentials, method, path in (
            ("bearer", "GET", "/metrics"),
            ("right", "HEAD", "/metrics"),
            ("right", "GET", "/none"),
            ("none", "POST", "/none"),
            ("right", "DELETE", "/none"),
        )
    ),
    Request("own", "none", "HEAD", "/none"),
)
CREDENTIALS: Mapping[str, Mapping[str, str]] = {
    "none": {},
    "right": basic(),
    "second": basic("other", OTHER_PASSWORD),
    "wrong": basic("prom", "wrong"),
    "unknown": basic("nobody"),
    "broken": {"Authorization": "Basic !"},
    "bearer": bearer(),
}


class Certificates(NamedTuple):
    """The certificates of a server and its clients."""

    authority: Authority
    server: Certificate
    other: Certificate
    clients: Mapping[str, Certificate]


def make_certificates(folder: Path) -> Certificates:
    """Issues all certificates."""
    authority, stranger = Authority(folder / "authority"), Authority(folder / "stranger")
    clients = {
        "own": authority.issue("scraper.example", "a@example.org"),
        "namesake": authority.issue("other.example", common_name="common"),
        "address": authority.issue("2001:db8::7"),
        "stranger": stranger.issue("scraper.example"),
        "expired": authority.issue("scraper.example", begins=-3 * DAY, ends=-DAY),
    }
    return Certificates(authority, authority.issue(), authority.issue(), clients)


def fill_in(text: str, certificates: Certificates) -> str:
    """Returns a file with the paths, or the texts, of certificates."""
    paths = {
        "cert": certificates.server.cert,
        "key": certificates.server.key,
        "other_key": certificates.other.key,
        "ca": certificates.authority.cert,
    }
    for name, path in paths.items():
        inline = "\n".join(f"    {line}" for line in path.read_text().splitlines())
        text = text.replace(f"{{{name}}}", str(path)).replace(f"{{inline_{name}}}", inline)
    return text


def context(client: str, certificates: Certificates) -> ssl.SSLContext | None:
    """Returns with which context a client connects; None for http."""
    if client == "http":
        return None
    made = ssl.create_default_context(cafile=certificates.authority.cert)
    if client in certificates.clients:
        made.load_cert_chain(*certificates.clients[client])
    match client:
        case "TLS 1.1":
            made.set_ciphers("DEFAULT:@SECLEVEL=0")
            made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_1
        case "TLS 1.2":
            made.maximum_version = ssl.TLSVersion.TLSv1_2
        case "TLS 1.3":
            made.minimum_version = ssl.TLSVersion.TLSv1_3
        case "AES" | "ChaCha":
            made.maximum_version = ssl.TLSVersion.TLSv1_2
            names = "ECDHE-{}-AES128-GCM-SHA256" if client == "AES" else "ECDHE-{}-CHACHA20-POLY1305"
            made.set_ciphers(":".join(names.format(kind) for kind in BOTH_KINDS))
        case "P-256" | "P-384":
            made.set_ecdh_curve("prime256v1" if client == "P-256" else "secp384r1")
    return made


class Outcome(NamedTuple):
    """A status, 0 where there is no answer, and what the answer has of those headers that can be set."""

    status: int
    headers: Mapping[str, str]


def outcomes(port: int, certificates: Certificates, requests: Sequence[Request] = REQUESTS) -> list[Outcome]:
    """Returns what becomes of requests, each from an address of its own: Stator blocks one that fails too often."""
    contexts = {client: context(client, certificates) for client in {each.client for each in requests}}
    return [
        outcome(port, contexts[each.client], each, f"127.0.1.{number}") for number, each in enumerate(requests, start=1)
    ]


def outcome(port: int, tls: ssl.SSLContext | None, request: Request, address: str = "127.0.0.1") -> Outcome:
    """Returns what becomes of a request."""
    connection: HTTPConnection
    if tls:
        connection = HTTPSConnection("127.0.0.1", port, timeout=10, source_address=(address, 0), context=tls)
    else:
        connection = HTTPConnection("127.0.0.1", port, timeout=10, source_address=(address, 0))
    with closing(connection):
        try:
            connection.request(request.method, request.path, headers=dict(CREDENTIALS[request.credentials]))
            response = connection.getresponse()
            response.read()
        except (OSError, HTTPException):
            return Outcome(0, {})
        return Outcome(response.status, {name: value for name in HEADERS if (value := response.headers[name])})
