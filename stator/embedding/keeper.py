"""Keeps a service registered, in a process of its own: `python -m stator.embedding.keeper`.

Workers come and go, and a server's main process forks: a thread there could leave its children with half-done
imports. So the first process that asks for it starts this one, which registers the service, watches that it stays
registered, and unregisters it when nobody serves any longer.
"""

import os
import pickle
import select
import signal
import sys
import time
from collections.abc import Callable
from math import inf

from stator.client.probe import is_ready
from stator.embedding.membership import Membership
from stator.embedding.state import StateFile, state_path
from stator.embedding.task import KeeperTask
from stator.log.logger import Log, new_id
from stator.log.writer import Sink
from stator.processes.procfs import is_listening
from stator.roster.roster import Roster
from stator.settings.declare import StartError

# Seconds that the keeper waits for a successor of the last process: a reload or a replaced worker changes nothing. The
# second is for a port that still listens, as gunicorn's does while its workers start: connections are not refused.
SUCCESSOR_WAIT, LISTENING_WAIT = 2.0, 30.0
# Seconds between two looks at who serves, and between two requests for /monitor at the start.
POLL, READY_POLL = 0.25, 0.1
# Seconds after which a warning says that /monitor has not answered with 200.
READY_LATE = 10.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT)
# What `systemctl kill` sends to all processes of a service, as to reopen logs.
IGNORED_SIGNALS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
# What a keeper writes to stdout when it runs; anything else is the reason why it can't.
STARTED = b"started"


class Server:
    """A server as its keeper sees it.

    Args:
        task: What the keeper keeps registered.

    Raises:
        OSError: The server's main process has ended.
    """

    def __init__(self, task: KeeperTask) -> None:
        self._task = task
        self._pidfd = os.pidfd_open(task.server)

    def is_serving(self) -> bool:
        """Returns whether its /monitor answers 200."""
        return is_ready(self._task.own_url)

    def is_listening(self) -> bool:
        """Returns whether a process listens at its port."""
        return is_listening(self._task.port)

    def has_ended(self) -> bool:
        """Returns whether its main process has ended."""
        return bool(select.select([self._pidfd], [], [], 0)[0])


class Keeper:
    """Registers a service once it answers, and unregisters it when nobody serves.

    Args:
        server: The server.
        membership: Its processes that serve.
        roster: Keeps the service registered.
        state: What the server's processes read; None if there is no file for it.
        wait_for_signal: Waits for a signal to stop, for some seconds at most; returns whether one came.
        log: Where progress is logged.
        clock: Returns monotonic seconds.
    """

    def __init__(
        self,
        server: Server,
        membership: Membership,
        roster: Roster,
        state: StateFile | None,
        *,
        wait_for_signal: Callable[[float], bool],
        log: Log,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._server, self._membership, self._roster, self._state = server, membership, roster, state
        self._wait_for_signal, self._log, self._clock = wait_for_signal, log, clock
        self._abandoned_at: float | None = None

    def run(self) -> None:
        """Returns when the service is unregistered and has stopped, or is another keeper's to keep registered."""
        reason = self._wait_until_ready() or self._keep_registered()
        self._log.info("keeper stopping", reason=reason)
        is_replaced = self._membership.is_replaced()
        self._roster.stop(stay=is_replaced)
        while not self._roster.wait_stopped(POLL):
            pass
        self._membership.resign()
        if not is_replaced:
            self._wait_until_drained()

    def _keep_registered(self) -> str:
        """Registers the service; returns when and why the keeper ends."""
        self._roster.start()
        while not (reason := self._end(POLL)):
            pass
        return reason

    def _wait_until_drained(self) -> None:
        """Waits until no process of the server can be asked any longer: until then, their /monitor needs the state."""
        while self._state and not self._state.is_replaced() and self._server.is_listening():
            if self._server.has_ended() or self._wait_for_signal(POLL):
                break

    def _wait_until_ready(self) -> str:
        """Waits until the service answers; returns why the keeper ends before that, if so."""
        late = self._clock() + READY_LATE
        while not self._server.is_serving():
            if reason := self._end(READY_POLL):
                return reason
            if self._clock() >= late:
                late = inf
                self._log.warning("not registered yet: /monitor does not answer 200", waited=f"{READY_LATE:g}s")
        return ""

    def _end(self, seconds: float) -> str:
        """Waits; returns why the keeper ends, if so. If nobody serves any longer, nobody can join from then on."""
        is_asked = self._wait_for_signal(seconds)
        if self._membership.is_replaced():
            return "another keeper takes over"
        is_abandoned = self._membership.is_abandoned()
        if is_asked:
            return "the server stops"
        if not is_abandoned:
            self._abandoned_at = None
            return ""
        if self._server.has_ended():
            return "the server has ended"
        now = self._clock()
        since = self._abandoned_at = now if self._abandoned_at is None else self._abandoned_at
        if now - since >= (LISTENING_WAIT if self._server.is_listening() else SUCCESSOR_WAIT):
            return "no process serves any longer"
        self._membership.release()
        return ""


def main() -> int:
    """Reads a task from stdin, and goes on in the background; reports on stdout whether it can.

    Returns:
        The exit status.
    """
    task: KeeperTask = pickle.load(sys.stdin.buffer)  # noqa: S301 # written by the process that started this one
    if os.fork():
        os._exit(0)  # the server gets no child that it would have to wait for
    signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    for each in IGNORED_SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    membership = task.membership()
    try:
        if not membership.become_keeper(task.digest):
            _report(STARTED)  # by another process, at the same time
            return 0
        log = task.config.logger.build(Sink(2), terminal=os.isatty(2)).bind(app_id=task.service.name, run_id=new_id())
        server = Server(task)
        state = _state(task, log)
        roster = task.roster(log, state.memory if state else None)
    except (StartError, OSError) as error:
        membership.resign()
        _report(str(error).encode())
        return 1
    _report(STARTED)
    try:
        Keeper(server, membership, roster, state, wait_for_signal=_wait_for_signal, log=log).run()
    finally:
        if state:
            state.remove()
    return 0


def _state(task: KeeperTask, log: Log) -> StateFile | None:
    try:
        return StateFile(state_path(task.folder, task.service.name, task.server))
    except OSError as error:
        log.warning("applications can't expose the state of the registration", error=error)
        return None


def _wait_for_signal(seconds: float) -> bool:
    return signal.sigtimedwait(STOP_SIGNALS, seconds) is not None


def _report(outcome: bytes) -> None:
    """Writes to stdout, and closes it, so that the process that started this one reads its end."""
    with open(os.devnull, "r+b") as nothing:  # noqa: PTH123 # not a path of ours
        os.write(1, outcome)
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 1)


if __name__ == "__main__":
    sys.exit(main())
