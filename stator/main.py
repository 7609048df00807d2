"""The composition root: environment -> config -> parts -> run."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

from stator.check.trial import try_out
from stator.config import Config, Environment
from stator.exporter import Exporter
from stator.log.logger import Log, new_id
from stator.log.quiet import QuietPaths
from stator.log.stdlib import adopt_stdlib
from stator.log.writer import Sink
from stator.points import CollectorContext
from stator.processes.service import ServiceProcesses
from stator.server.listener import listening_address
from stator.server.signals import block_signals, startup_guard
from stator.server.supervisor import FAILED, Supervisor, is_serving
from stator.settings import command_line
from stator.settings.declare import StartError
from stator.version import __version__, build_labels

APP_ID = "stator"
ABOUT = "'stator' makes a service observable: it registers, answers /monitor and /metrics, and logs what happened"


def run() -> int:
    """Runs the program with this process's command line and environment; returns its exit status."""
    # Little of what a start makes is garbage, and to look for it takes a tenth of the start.
    gc.disable()
    starting = startup_guard(block_signals())
    return main(sys.argv[1:], os.environ, starting)


def main(argv: Sequence[str], environ: Mapping[str, str], starting: AbstractContextManager[None] | None = None) -> int:
    """Loads the config, and runs the service until it is stopped; returns the exit status.

    `starting` watches over the start, in which plugins are loaded. Raises SystemExit where a flag was answered, or the
    environment is wrong.
    """
    with ExitStack() as start:
        start.enter_context(starting or nullcontext())
        loaded = command_line.load(
            Environment.of,
            prefix="STTR",
            about=ABOUT,
            version=__version__,
            argv=argv,
            environ=environ,
            trial=try_out,
        )
        run_id = new_id()
        secrets = loaded.config.known_secrets()
        log = loaded.config.logger.build(Sink(1), terminal=os.isatty(1), secrets=secrets)
        log = log.bind(app_id=APP_ID, run_id=run_id)
        adopt_stdlib(log)
        log.info("starting up", config=loaded.redacted)
        for warning in loaded.warnings:
            log.warning(warning)
        try:
            supervisor = assemble(loaded.config, loaded.redacted, run_id, log)
            start.close()
            gc.freeze()
            gc.enable()
            return supervisor.run()
        except StartError as error:
            log.error("can't start", reason=str(error))
            return FAILED


def assemble(config: Config, redacted: dict[str, Any], run_id: str, log: Log) -> Supervisor:
    """Builds all parts; raises StartError where one can't be built."""
    processes = ServiceProcesses(config.server.workers)
    collectors = config.collectors.build(CollectorContext(APP_ID, run_id, processes, log))
    formats = config.formats()
    listener = config.server.listen()
    bound = listening_address(listener)
    roster = config.roster.build(config.registrar(log), config.client.base_uri, bound, partial(is_serving, bound), log)
    exporter = Exporter(collectors | roster.collectors(), config.metrics, build_labels(), log)

    def app() -> Any:
        from stator.web import access_log, app  # Falcon is for the server's process alone
        from stator.web.checks import Checks

        checks = Checks({}, log, is_draining=roster.metrics.is_draining, mask=config.known_secrets().mask)
        inner = app.asgi_app(exporter, formats, redacted, log, checks)
        mode = "full" if config.logger.access == "auto" else config.logger.access
        secret, timeout = config.client.secret_headers, config.server.timeout.seconds
        quiet = QuietPaths(config.logger.quiet_paths)
        return access_log.AccessLogMiddleware(inner, log, secret, timeout, quiet, mode)

    drain = config.roster.drain.seconds
    return Supervisor(config.server, listener, app, roster, drain=drain, processes=processes, log=log)
