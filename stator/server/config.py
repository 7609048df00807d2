"""Settings of the HTTP server."""

from attrs import frozen

from stator.access.config import AccessConfig
from stator.settings.declare import at_least, between, positive, section, setting
from stator.settings.duration import Duration


@frozen
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
    access: AccessConfig = section(AccessConfig, env="")
