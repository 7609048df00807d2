"""What a keeper keeps registered."""

import hashlib
import tempfile
from functools import partial
from mmap import mmap
from pathlib import Path
from typing import Self

from attrs import evolve, frozen

from stator.client.probe import is_ready
from stator.config import Config
from stator.embedding.membership import Membership, path_for
from stator.log.logger import Log
from stator.processes.siblings import server_pid
from stator.roster.roster import Roster
from stator.roster.service import ServiceConfig


@frozen
class KeeperTask:
    """What a keeper keeps registered.

    Attributes:
        config: Settings of the log, the registrar and the service.
        host: Address on which it listens; empty for all.
        port: Port on which it listens.
        folder: Where its processes and the keeper have a lock file.
        server: Process id of the server's main process; the registration ends with it.
    """

    config: Config
    host: str
    port: int
    folder: Path
    server: int

    @classmethod
    def of_this_server(cls, config: Config, service: ServiceConfig, host: str, port: int) -> Self:
        """Returns the task of the server of which this is a process.

        Raises:
            OSError: There is no folder for temporary files.
        """
        # Without what only answers requests, as the settings of plugins, which the keeper does not load.
        roster = evolve(config.roster, service=service)
        plain = Config(
            logger=config.logger,
            client=config.client,
            consul=config.consul,
            roster=roster,
            file=config.file,
            registrars=config.registrars,
        )
        return cls(plain, host, port, Path(tempfile.gettempdir()), server_pid())

    @property
    def service(self) -> ServiceConfig:
        """How the service is registered."""
        return self.config.roster.service

    @property
    def own_url(self) -> str:
        """The URL at which the service's /monitor answers on this host."""
        return self.service.monitor_url(self.host or "127.0.0.1", self.port)

    @property
    def digest(self) -> bytes:
        """The same for the same task, in each process."""
        return hashlib.sha256(repr(self).encode()).digest()

    def membership(self) -> Membership:
        """The lock that the processes of this service share with their keeper, whatever they were started with."""
        config, service = self.config, self.service
        registry = (config.roster.registrar, config.client.base_uri, str(config.file.path))
        return Membership(path_for(self.folder, ".lock", *registry, service.name, service.id, self.host, self.port))

    def roster(self, log: Log, memory: mmap | None) -> Roster:
        """What registers the service; its metrics are in that memory.

        Raises:
            StartError: Its registrar can't be built.
        """
        config, url = self.config, self.own_url
        return config.roster.build(
            config.registrar(log),
            config.client.base_uri,
            (self.host, self.port),
            partial(is_ready, url),
            log,
            own_url=url,
            memory=memory,
        )
