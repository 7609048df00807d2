"""The composition root: environment -> config -> parts -> run."""

import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

from stator.access.requests import KEY_HEADER
from stator.check.trial import try_out
from stator.config import Config, Environment
from stator.exporter import Exporter
from stator.log.logger import Log, new_id
from stator.log.stdlib import adopt_stdlib
from stator.log.writer import Sink
from stator.points import CollectorContext
from stator.processes.service import ServiceProcesses
from stator.roster.roster import Roster
from stator.roster.service import Endpoint
from stator.server.listener import listen, listening_address
from stator.server.service_manager import ServiceManager
from stator.server.signals import FORWARDED_SIGNALS, block_signals, load_prctl, startup_guard
from stator.server.startup import ForkedCall
from stator.server.supervisor import FAILED, Supervisor, is_serving
from stator.server.versions import check_versions
from stator.settings import command_line
from stator.settings.command_line import Loaded
from stator.settings.declare import StartError
from stator.settings.paths import PathSet
from stator.version import __version__, build_labels
from stator.web.status.collections import LastCollections

if TYPE_CHECKING:
    from stator.child.process import ChildProcess
    from stator.web.status.facts import RegistrationFacts

APP_ID = "stator"
CHILD = "child"  # the collector, and the health check, of a wrapped program
ABOUT = "'stator' makes a service observable: it registers, answers /monitor and /metrics, and logs what happened"


def run() -> int:
    """Runs the program with this process's command line and environment; returns its exit status."""
    # Little of what a start makes is garbage, and to look for it takes a tenth of the start.
    gc.disable()
    blocked = block_signals()
    # Before anything is started: nothing else may report in our name.
    manager = ServiceManager.take(os.environ)
    argv = sys.argv[1:]
    reading = None
    if not command_line.is_question(argv):
        # Before the guard, which has a thread.
        reading = ForkedCall(partial(read, Environment.built_in, argv, os.environ))
    return main(argv, os.environ, startup_guard(blocked), reading, manager)


def read(
    environment: Callable[[str, Mapping[str, str]], Environment], argv: Sequence[str], environ: Mapping[str, str]
) -> Loaded[Config]:
    """Returns the settings; raises SystemExit where a flag was answered, or the environment is wrong."""
    return command_line.load(
        environment, prefix="STTR", about=ABOUT, version=__version__, argv=argv, environ=environ, trial=try_out
    )


def main(
    argv: Sequence[str],
    environ: Mapping[str, str],
    starting: AbstractContextManager[None] | None = None,
    reading: ForkedCall[Loaded[Config]] | None = None,
    manager: ServiceManager | None = None,
) -> int:
    """Loads the config, and runs the service until it is stopped; returns the exit status.

    `starting` watches over the start, in which plugins are loaded. `reading` has begun to read the settings, and has no
    result if there are plugins. The state is reported to `manager`. Raises SystemExit where a flag was answered, or the
    environment is wrong.
    """
    with ExitStack() as start:
        start.enter_context(starting or nullcontext())
        loaded = None
        if reading is not None:
            import_parts()
            loaded = reading.result()
        loaded = loaded or read(Environment.of, argv, environ)
        run_id = new_id()
        secrets = loaded.config.known_secrets()
        # A program's output stays as it is: its stdout is ours.
        output = 2 if loaded.command else 1
        log = loaded.config.logger.build(Sink(output), terminal=os.isatty(output), secrets=secrets)
        log = log.bind(app_id=APP_ID, run_id=run_id)
        adopt_stdlib(log)
        log.info("starting up", config=loaded.redacted)
        for warning in (*loaded.warnings, *loaded.config.server.warnings()):
            log.warning(warning)
        try:
            supervisor = assemble(loaded, run_id, manager or ServiceManager(), log)
            start.close()
            gc.freeze()
            gc.enable()
            return supervisor.run()
        except StartError as error:
            log.error("can't start", reason=str(error))
            return FAILED


def registration_facts(registrar: str, name: str, roster: Roster) -> "RegistrationFacts":
    """Returns what the page says of the registration, in whichever process."""
    from stator.web.status.facts import RegistrationFacts

    if registrar == "none":
        return RegistrationFacts("nowhere")
    state, confirmed = roster.metrics.registration()
    if (service := roster.service()) is None:
        return RegistrationFacts(state, registrar, name, confirmed=confirmed)
    return RegistrationFacts(state, registrar, name, service.id, service.address, service.port, confirmed)


def program_pids(program: "ChildProcess") -> list[int]:
    """Returns the ids of the wrapped program's processes, in whichever process."""
    return [each.pid for each in program.metrics.processes()]


def import_parts() -> None:
    """Imports what the parts need, and would else import when they are built or start."""
    load_prctl()
    # What can't be imported is reported when it is needed.
    with suppress(Exception):
        check_versions()
        for name in ("encodings.idna", "stator.client.client", "stator.server.arbiter", "stator.web.app"):
            import_module(name)
        if os.environ.get("STTR_SERVER_CERTFILE"):
            import_module("stator.server.secure")
        if os.environ.get("STTR_SERVER_WEBCONFIG"):
            import_module("stator.server.secure")
            import_module("stator.server.web_config_file")


def assemble(loaded: Loaded[Config], run_id: str, manager: ServiceManager, log: Log) -> Supervisor:
    """Builds all parts, before the first fork: their memory is shared then. Raises StartError where one can't be."""
    check_versions()
    from stator.server.arbiter import prepare
    from stator.web import access_log, app
    from stator.web.checks import CheckMetrics, Checks
    from stator.web.status.facts import About, Status

    config = loaded.config
    processes = ServiceProcesses(config.server.workers)
    context = CollectorContext(APP_ID, run_id, processes, log, (CHILD,) if loaded.command else ())
    collectors = config.collectors.build(context)
    formats = config.formats()
    listener = listen(config.server.host, config.server.port)
    bound = listening_address(listener)
    mask = config.known_secrets().mask
    # By which the server knows our own probes, whoever else needs credentials.
    key = os.urandom(16).hex()
    probe = partial(is_serving, bound, config.server.scheme, key)
    roster = config.roster.build(
        config.registrar(log, {KEY_HEADER: key}),
        config.client.base_uri,
        Endpoint(*bound, config.server.scheme),
        partial(probe, timeout=1 + config.monitor.check_timeout.seconds),
        log,
        report=lambda status: manager.status(mask(status)),
    )
    found, timeout = config.monitor.build(config.public_environ), config.monitor.check_timeout.seconds
    program = None
    if loaded.command:
        check = config.child_check()
        from stator.child.output import OutputLog

        output = OutputLog(1, APP_ID, run_id, config.logger.max_len)
        program = config.child.build(loaded.command, config.public_environ(), check, output, log)
        # The families of the `process` collector are the program's then.
        collectors = {CHILD: program.metrics, **collectors}
        collectors.pop("process", None)
        if check is not None:
            found = {CHILD: check, **found}
    checks = Checks(found, log, timeout, roster.metrics.is_draining, mask)
    if found:
        collectors["checks"] = CheckMetrics(lambda: checks)
    collectors |= roster.collectors()
    collections = LastCollections(processes, collectors)
    exporter = Exporter(collectors, config.metrics, build_labels(), log, collected=collections.report)

    about = About(config.roster.service.name, run_id)
    registration = partial(registration_facts, config.registrar_name, config.roster.service.name, roster)
    pids = partial(program_pids, program) if program else tuple
    status = Status(about, checks, collections, processes, registration, time.time, pids)
    access, is_doubtful = config.server.access, lambda _: False
    inner, proxies = app.asgi_app(exporter, formats, loaded.redacted, log, checks, status), access.proxies()
    web = config.server.open_web_config()
    if guard := access.build(log, lambda: key, web):
        from stator.web.guarded import doubts, guarded_asgi  # most services have none

        inner, is_doubtful = guarded_asgi(inner, guard, proxies), doubts(guard, proxies)
    tls = config.server.tls_options()
    if tls is not None and tls.client_ca_file and web is None:
        from stator.web.certificates import ClientCertificateMiddleware

        inner = ClientCertificateMiddleware(inner, frozenset(tls.client_names), PathSet(access.open_paths), key)
    answers = access_log.AccessLogMiddleware(
        inner,
        log,
        config.client.secret_headers,
        config.server.timeout.seconds,
        PathSet(config.logger.quiet_paths),
        "full" if config.logger.access == "auto" else config.logger.access,
        proxies,
        is_doubtful,
    )
    drain = config.roster.drain.seconds
    return Supervisor(
        config.server,
        listener,
        prepare(config.server, answers, listener.fileno(), processes, web, key),
        roster,
        drain=drain,
        processes=processes,
        manager=manager,
        log=log,
        probe=probe,
        program=program,
        forwarded=FORWARDED_SIGNALS if program else frozenset(),
    )
