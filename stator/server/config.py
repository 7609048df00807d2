"""Settings of the HTTP server."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from stator.access.config import AccessConfig
from stator.settings.declare import at_least, between, positive, section, setting
from stator.settings.duration import Duration

if TYPE_CHECKING:
    from stator.server.tls import TLSOptions
    from stator.server.web_config_file import WebConfigFile

# Settings that a web configuration file stands in place of.
REPLACED = ("cert_file", "key_file", "client_ca_file", "client_names", "users_file")


@frozen(eq=False, repr=False)
class ServerConfig:
    """How the service listens."""

    host: str = setting("", desc="hostname or ip for which to bind; unset: all")
    port: int = setting(8087, desc="port on which to listen; 0: any that is free", check=between(0, 65535))
    timeout: Duration = setting(Duration.parse("10s"), desc="characteristic timeout", check=positive)
    workers: int = setting(1, desc="number of worker processes", check=at_least(1))
    max_connections: int = setting(
        0,
        desc="maximum number of open connections of a worker, 0 for the limit of open files less 64",
        check=at_least(0),
    )
    cert_file: str = setting("", desc="PEM file of the certificate with which https is served; unset: http")
    key_file: str = setting("", desc="PEM file of the certificate's key; unset: the certificate's file has it")
    client_ca_file: str = setting(
        "", desc="PEM file of the authorities of clients' certificates; unset: clients need none"
    )
    client_names: tuple[str, ...] = setting(
        (), desc="names, of which a client's certificate must have one: common, DNS, IP, URI or email; unset: any"
    )
    tls_min_version: Literal["1.2", "1.3"] = setting("1.2", desc="oldest version of TLS: 1.2 or 1.3")
    web_config: str = setting(
        "", desc="web configuration file of Prometheus' exporter-toolkit, in place of settings of TLS and of users"
    )
    access: AccessConfig = section(AccessConfig, env="")

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields what is wrong between settings, or with a file that they name."""
        for name in ("key_file", "client_ca_file"):
            if getattr(self, name) and not self.cert_file:
                yield name, "STTR_SERVER_CERTFILE to be set too"
        if self.client_names and not self.client_ca_file:
            yield "client_names", "STTR_SERVER_CLIENTCAFILE to be set too"
        if self.cert_file:
            yield from ((each.option, str(each)) for each in self._tls_options().problems())
        if problem := self.web_config_problem():
            yield "web_config", problem

    def web_config_problem(self, *, has_tls: bool = True) -> str:
        """Returns what is wrong about the web configuration file; its TLS counts only where that is ours to serve."""
        if not self.web_config:
            return ""
        for name in REPLACED:
            if getattr(self, name, "") or getattr(self.access, name, ""):
                return f"no STTR_SERVER_{name.replace('_', '').upper()} beside it: the file has its own"
        if self.tls_min_version != "1.2":
            return "no STTR_SERVER_TLSMINVERSION beside it: the file has min_version"
        from stator.access.files import ContentError
        from stator.server.web_config import read

        try:
            read(self.web_config, has_tls=has_tls)
        except OSError as error:
            return f"a readable file ({error.strerror})"
        except ContentError as error:
            return error.expected
        return ""

    def open_web_config(self, *, has_tls: bool = True) -> "WebConfigFile | None":
        """Returns the web configuration file, which is read again when it changes; raises StartError."""
        if not self.web_config:
            return None
        from stator.server.web_config_file import WebConfigFile

        return WebConfigFile(self.web_config, has_tls=has_tls)

    def warnings(self) -> Iterator[str]:
        """Yields what is weak about the files of users and tokens."""
        yield from self.access.warnings()
        if self.web_config:
            from stator.access.files import ContentError
            from stator.server.web_config import warnings

            with suppress(OSError, ContentError):
                yield from warnings(self.web_config)

    @property
    def scheme(self) -> str:
        """What is spoken: http or https."""
        return "https" if self.tls_options() else "http"

    def tls_options(self) -> "TLSOptions | None":
        """Returns how TLS is served, None for plain http; raises StartError for a bad web configuration file."""
        if self.web_config:
            from stator.server.web_config import read_at_start

            return read_at_start(self.web_config).tls
        return self._tls_options() if self.cert_file else None

    def _tls_options(self) -> "TLSOptions":
        from stator.server.tls import TLSOptions

        return TLSOptions(
            self.cert_file,
            self.key_file,
            client_ca_file=self.client_ca_file,
            client_names=self.client_names,
            min_version=self.tls_min_version,
        )
