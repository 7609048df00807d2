"""How a web configuration file says that TLS is served: in the words of Go's crypto/tls."""

import ssl
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct

from stator.access.files import ContentError
from stator.server.memory_file import MemoryFile
from stator.server.tls import TLSOptions

# As YAML 1.1 has them: https://yaml.org/type/bool.html
BOOLEANS = [
    form
    for word in ("y", "yes", "true", "on", "n", "no", "false", "off")
    for form in (word, word.capitalize(), word.upper())
]
VERSIONS = {"TLS10": "1.0", "TLS11": "1.1", "TLS12": "1.2", "TLS13": "1.3"}
OLD = ("TLS10", "TLS11")
# By https://pkg.go.dev/crypto/tls#CipherSuites: those of TLS 1.3, which can't be chosen, and older ones as OpenSSL
# calls them.
TLS13_SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
}
CURVES = {"X25519": "X25519", "CurveP256": "prime256v1", "CurveP384": "secp384r1", "CurveP521": "secp521r1"}
NOBODY, IF_GIVEN, EVERYBODY = CLIENT_AUTH = "NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"
# These ask for certificates without verifying them.
UNVERIFIED = ("RequestClientCert", "RequireAnyClientCert", "RequireClientCert")
_TABLE = "tls_server_config"


class TLSServerConfig(Struct, forbid_unknown_fields=True, frozen=True):
    """The table `tls_server_config`."""

    cert: str = ""
    key: str = ""
    client_ca: str = ""
    cert_file: str = ""
    key_file: str = ""
    client_ca_file: str = ""
    client_auth_type: str = ""
    client_allowed_sans: tuple[str, ...] | None = None
    min_version: str = "TLS12"
    max_version: str = "TLS13"
    cipher_suites: tuple[str, ...] = ()
    prefer_server_cipher_suites: str = "true"
    curve_preferences: tuple[str, ...] = ()

    @property
    def is_enabled(self) -> bool:
        """Whether https is served: the toolkit serves http where the rest alone is set."""
        files = (self.cert, self.key, self.client_ca, self.cert_file, self.key_file, self.client_ca_file)
        return any((*files, self.client_auth_type))

    @property
    def has_new_suites_alone(self) -> bool:
        """Whether the suites that are named are those of TLS 1.3."""
        return bool(self.cipher_suites) and not {*self.cipher_suites} & {*SUITES}


def one_of(key: str, value: str, values: Collection[str]) -> None:
    """Raises ContentError if a value is none of those that a key can have."""
    if value not in values:
        msg = f"{key} to be one of {', '.join(values)}, not {value!r}"
        raise ContentError(msg)


def check_boolean(key: str, value: str) -> None:
    """Raises ContentError if a value is neither true nor false."""
    if value not in BOOLEANS:
        msg = f"{key} to be true or false, not {value}"
        raise ContentError(msg)


def tls_options(config: TLSServerConfig, folder: Path) -> TLSOptions | None:
    """Returns how TLS is served, None for http; raises ContentError, also for files that can't be used."""
    for name in ("min_version", "max_version"):
        one_of(f"{_TABLE}.{name}", getattr(config, name), VERSIONS)
    check_boolean(f"{_TABLE}.prefer_server_cipher_suites", config.prefer_server_cipher_suites)
    for each in config.curve_preferences:
        one_of(f"{_TABLE}.curve_preferences", each, CURVES)
    for each in config.cipher_suites:
        is_known = each in SUITES or each in TLS13_SUITES
        _require(is_known, "cipher_suites", f"suites that Go's crypto/tls holds for secure, and {each} is none")
    if not config.is_enabled:
        return None
    for name in ("cert", "key"):
        _require(getattr(config, name) or getattr(config, f"{name}_file"), f"{name} or {name}_file", "set")
    _check_client_auth(config)
    _check_choices(config)
    files = {name: _file(config, name, folder) for name in ("cert", "key", "client_ca")}
    sans = config.client_allowed_sans
    options = TLSOptions(
        _path(files["cert"]),
        _path(files["key"]),
        client_ca_file=_path(files["client_ca"]),
        min_version=VERSIONS["TLS13" if config.has_new_suites_alone else config.min_version],
        max_version=VERSIONS[config.max_version],
        ciphers=_ciphers(config),
        curves=tuple(CURVES[each] for each in config.curve_preferences),
        is_of_web_config=True,
        is_client_required=config.client_auth_type == EVERYBODY,
        client_sans=None if sans is None else frozenset(sans),
        in_memory=tuple(each for each in files.values() if isinstance(each, MemoryFile)),
    )
    _try(options, files)
    return options


def _require(is_right: object, key: str, expected: str) -> None:
    if not is_right:
        msg = f"{_TABLE}.{key} to be {expected}"
        raise ContentError(msg)


def _check_client_auth(config: TLSServerConfig) -> None:
    key, kind = "client_auth_type", config.client_auth_type or NOBODY
    known = f"one of {', '.join(CLIENT_AUTH)}"
    _require(kind not in UNVERIFIED, key, f"{known}, not {kind}, which would verify no certificate")
    one_of(f"{_TABLE}.{key}", kind, CLIENT_AUTH)
    has_authorities = bool(config.client_ca or config.client_ca_file)
    asks = kind != NOBODY
    _require(asks or not has_authorities, key, f"{IF_GIVEN} or {EVERYBODY}, since client_ca or client_ca_file is set")
    _require(has_authorities or not asks, "client_ca or client_ca_file", f"set, since client_auth_type is {kind}")
    is_right = config.client_allowed_sans is None or kind == EVERYBODY
    _require(is_right, key, f"{EVERYBODY}, since client_allowed_sans is set")


def _check_choices(config: TLSServerConfig) -> None:
    newest = config.max_version
    _require(newest not in OLD, "max_version", f"TLS12 or TLS13, not {newest}, which our own probes do not speak")
    _require(config.min_version <= newest, "min_version", "no newer than max_version")
    is_right = newest == "TLS13" or not config.has_new_suites_alone
    _require(is_right, "cipher_suites", f"some of TLS 1.2, since max_version is {newest}")
    is_right = len(config.curve_preferences) < 2 or hasattr(ssl.SSLContext, "set_groups")
    _require(is_right, "curve_preferences", "a single one: Python can choose several from 3.15 on")


def _ciphers(config: TLSServerConfig) -> str:
    names = [SUITES[each] for each in config.cipher_suites if each in SUITES]
    if config.min_version in OLD:
        # OpenSSL allows the digests of versions before 1.2 at this level alone.
        names = [*(names or SUITES.values()), "@SECLEVEL=0"]
    return ":".join(names)


def _file(config: TLSServerConfig, name: str, folder: Path) -> str | MemoryFile:
    """Returns a path, or what has the text that stands in the file itself; a path goes before a text."""
    if path := getattr(config, f"{name}_file"):
        return str(folder / path)
    text = getattr(config, name)
    return MemoryFile(f"{_TABLE}.{name}", text) if text else ""


def _path(file: str | MemoryFile) -> str:
    return file.path if isinstance(file, MemoryFile) else file


def _try(options: TLSOptions, files: Mapping[str, str | MemoryFile]) -> None:
    """Raises ContentError where TLS can't be served."""
    choices = "cipher_suites and curve_preferences"
    try:
        problem = next(options.problems(), None)
    except (ssl.SSLError, ValueError):  # of the context itself
        problem = None
        _require(False, choices, "what this machine's OpenSSL knows")
    if problem:
        name = problem.option.removesuffix("_file")
        file = files[name]
        _require(False, name if isinstance(file, MemoryFile) else f"{name}_file={file}", str(problem))
    _require(options.can_be_served(), choices, "such that this certificate can be served with them")
