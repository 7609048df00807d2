"""The composition root: environment -> config -> parts -> run."""

import gc
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from importlib import import_module

from stator.access.probes import KEY_HEADER
from stator.check.trial import try_out
from stator.config import Config, Environment
from stator.control.asking import StackDump
from stator.control.main_process import MainControl
from stator.control.reload import Reload
from stator.control.state import SharedState
from stator.exporter import Exporter
from stator.log.level import Level
from stator.log.logger import Log, new_id
from stator.log.stdlib import adopt_stdlib
from stator.log.writer import Sink
from stator.points import CollectorContext
from stator.processes.service import ServiceProcesses
from stator.program.status import page_status, publish_start
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
        state = SharedState.new()
        level = Level(loaded.config.logger.level, state.level)
        # A program's output stays as it is: its stdout is ours.
        output = 2 if loaded.command else 1
        log = loaded.config.logger.build(Sink(output), terminal=os.isatty(output), secrets=secrets, level=level)
        log = log.bind(app_id=APP_ID, run_id=run_id)
        adopt_stdlib(log)
        log.info("starting up", config=loaded.redacted)
        for warning in (*loaded.warnings, *loaded.config.server.warnings()):
            log.warning(warning)
        try:
            supervisor = assemble(loaded, run_id, manager or ServiceManager(), state, level, log)
            start.close()
            gc.freeze()
            gc.enable()
            return supervisor.run()
        except StartError as error:
            log.error("can't start", reason=str(error))
            return FAILED


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


def assemble(
    loaded: Loaded[Config], run_id: str, manager: ServiceManager, state: SharedState, level: Level, log: Log
) -> Supervisor:
    """Builds all parts, before the first fork: their memory is shared then. Raises StartError where one can't be."""
    check_versions()
    from stator.server.arbiter import prepare
    from stator.web import app
    from stator.web.access_log import AccessLogMiddleware
    from stator.web.checks import CheckMetrics, Checks, passing
    from stator.web.stack import stacked

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
    publish_start(state, loaded, run_id, bound, mask)

    def report(status: str) -> None:
        manager.status(mask(status))
        state.publish(registration=mask(status))

    roster = config.roster.build(
        config.registrar(log, {KEY_HEADER: key}),
        config.client.base_uri,
        Endpoint(*bound, config.server.scheme),
        partial(probe, timeout=1 + config.monitor.check_timeout.seconds),
        log,
        report=report,
    )
    found, timeout = config.monitor.build(config.public_environ), config.monitor.check_timeout.seconds
    program = None
    if loaded.command:
        check = config.child_check()
        from stator.child.output import OutputLog

        output = OutputLog(1, APP_ID, run_id, config.logger.max_len)
        passes = passing(check, timeout) if check else None
        program = config.child.build(loaded.command, config.public_environ(), passes, output, log)
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

    status = partial(page_status, config, run_id, checks, collections, processes, roster=roster, program=program)
    web = config.server.open_web_config()
    tls = None if web else config.server.tls_options()
    stack = stacked(
        app.asgi_app(exporter, formats, loaded.redacted, log, checks, status),
        log,
        config.server.access,
        rules=web,
        probe_key=key,
        client_names=tls.client_names if tls and tls.client_ca_file else None,
    )
    mode = "full" if config.logger.access == "auto" else config.logger.access
    secret, quiet = config.client.secret_headers, PathSet(config.logger.quiet_paths)
    seconds = config.server.timeout.seconds
    answers = AccessLogMiddleware(stack.app, log, secret, seconds, quiet, mode, stack.proxies, stack.is_doubtful)
    control = MainControl(Reload(config.secrets()), state, level, StackDump(processes, level, log), log)
    return Supervisor(
        config.server,
        listener,
        prepare(config.server, answers, listener.fileno(), processes, reload=control.reload, web=web, probe_key=key),
        roster,
        drain=config.roster.drain.seconds,
        processes=processes,
        manager=manager,
        control=control,
        log=log,
        probe=probe,
        program=program,
        forwarded=FORWARDED_SIGNALS if program else frozenset(),
    )
