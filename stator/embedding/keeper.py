"""Keeps a service registered, in a process of its own: `python -m stator.embedding.keeper`."""
# Not in a thread: a server's main process forks, and would leave its children with half-done imports.

import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable
from math import inf

from attrs import define, field

from stator.access.probes import KEY_HEADER
from stator.client.probe import is_ready
from stator.control.embedded import identity
from stator.control.state import NAME, SharedState
from stator.embedding.membership import Membership
from stator.embedding.registration import STARTED, KeeperTask
from stator.embedding.state import StateFile, state_path
from stator.log.logger import Log, new_id
from stator.log.writer import Sink
from stator.processes.procfs import is_listening
from stator.roster.roster import Roster
from stator.roster.service import Endpoint
from stator.server.signals import IGNORED_SIGNALS
from stator.settings.declare import StartError
from stator.version import __version__

# Seconds to wait for a successor of the last process; longer while the port listens, as while gunicorn's workers start.
SUCCESSOR_WAIT, LISTENING_WAIT = 2.0, 30.0
# Seconds between two looks at who serves, and between two requests for /monitor at the start.
POLL, READY_POLL = 0.25, 0.1
# Seconds after which a warning says that /monitor has not answered with 200.
READY_LATE = 10.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)


class Server:
    """The server of a task as its keeper sees it; raises OSError if its main process has ended."""

    def __init__(self, task: KeeperTask, probe_key: str) -> None:
        self._task, self._pidfd = task, os.pidfd_open(task.server)
        self._headers = {KEY_HEADER: probe_key}

    def is_serving(self) -> bool:
        """Returns whether its /monitor answers 200."""
        return is_ready(self._task.own_url, headers=self._headers)

    def is_listening(self) -> bool:
        """Returns whether a process listens at its port."""
        return is_listening(self._task.port)

    def has_ended(self) -> bool:
        """Returns whether its main process has ended."""
        return bool(select.select([self._pidfd], [], [], 0)[0])


@define(eq=False)
class Keeper:
    """Registers a service once it answers, and unregisters it when nobody serves."""

    server: Server
    membership: Membership
    roster: Roster
    state: StateFile
    wait_for_signal: Callable[[float], bool]  # waits some seconds at most; returns whether one came
    log: Log
    clock: Callable[[], float] = time.monotonic
    _abandoned_at: float = field(default=inf, init=False)

    def run(self) -> None:
        """Returns when no process can be asked any longer, or when another keeper takes over."""
        reason, late = "", self.clock() + READY_LATE
        # A keeper that was killed left the service registered: this one must unregister it, even if it never answers.
        while not (reason or self.state.is_successor or self.server.is_serving()):
            if self.clock() >= late:
                late = inf
                self.log.warning("not registered yet: /monitor does not answer 200", waited=f"{READY_LATE:g}s")
            reason = self._end(READY_POLL)
        if not reason:
            self.roster.start()
        while not reason:
            reason = self._end(POLL)
        self.log.info("keeper stopping", reason=reason)
        is_replaced = self.membership.is_replaced()
        self.roster.stop(stay=is_replaced)
        while not self.roster.wait_stopped(POLL):
            pass
        self.membership.resign()
        # For as long as the server's processes can be asked, their /monitor needs the state.
        while not (is_replaced or self.state.is_replaced() or self.server.has_ended()) and self.server.is_listening():
            self.wait_for_signal(POLL)  # systemd's came already, if the server's own comes here
        self.state.remove()

    def _end(self, seconds: float) -> str:
        """Waits; returns why the keeper ends, if so. If nobody serves any longer, nobody can join from then on."""
        is_asked = self.wait_for_signal(seconds)
        if self.membership.is_replaced():
            return "another keeper takes over"
        is_abandoned = self.membership.is_abandoned()
        if is_asked:
            return "the server stops"
        if not is_abandoned:
            self._abandoned_at = inf
            return ""
        if self.server.has_ended():
            return "the server has ended"
        self._abandoned_at = min(self._abandoned_at, self.clock())
        wait = LISTENING_WAIT if self.server.is_listening() else SUCCESSOR_WAIT
        if self.clock() - self._abandoned_at >= wait:
            return "no process serves any longer"
        self.membership.release()
        return ""


def main() -> int:
    """Reads a task from stdin, and goes on in the background; reports on stdout whether it can."""
    task: KeeperTask = pickle.load(sys.stdin.buffer)  # noqa: S301 # written by the process that started this one
    if os.fork():
        os._exit(0)  # the server gets no child that it would have to wait for
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    # `systemctl kill` sends to all processes of a service what is for its server, as to reopen logs.
    for each in (signal.SIGHUP, *IGNORED_SIGNALS):
        signal.signal(each, signal.SIG_IGN)
    membership, secrets = task.membership(), task.config.known_secrets()
    try:
        if not membership.become_keeper(task.digest):
            _report(STARTED)  # by another process, at the same time
            return 0
        config, endpoint = task.config, Endpoint(task.host, task.port)
        log = config.logger.build(Sink(2), terminal=os.isatty(2), secrets=secrets)
        log = log.bind(app_id=task.service.name, run_id=new_id())
        key = os.urandom(16).hex()
        server, registrar = Server(task, key), config.registrar(log, {KEY_HEADER: key})
        state = StateFile(state_path(task.folder, task.service.name, task.server), key)
    except (StartError, OSError) as error:
        membership.resign()
        _report(secrets.mask(str(error)).encode())
        return 1
    _report(STARTED)
    public = _state_of(task)

    def report(status: str) -> None:
        public.publish(registration=secrets.mask(status))

    roster = config.roster.build(
        registrar,
        config.client.base_uri,
        endpoint,
        server.is_serving,
        log,
        own_url=task.own_url,
        memory=state.memory,
        report=report,
    )
    wait_for_signal = lambda seconds: signal.sigtimedwait(STOP_SIGNALS, seconds) is not None  # noqa: E731
    Keeper(server, membership, roster, state, wait_for_signal, log).run()
    return 0


def _state_of(task: KeeperTask) -> SharedState:
    """Returns the state in which `ctl` finds the registration of a service."""
    state, service = SharedState.new(f"{NAME}-keeper"), task.service
    version = dict(service.meta).get("version", "")
    about = {"kind": "keeper", "service": service.name, "version": version, "stator": __version__}
    state.publish(**about, **identity(task.server), port=task.port, registration="not registered yet")
    return state


def _report(outcome: bytes) -> None:
    """Writes to stdout, and closes it, so that the process that started this one reads its end."""
    os.write(1, outcome)
    os.dup2(2, 1)


if __name__ == "__main__":
    sys.exit(main())
