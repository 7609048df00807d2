"""What the program says of itself: on the page, and to `ctl`."""

import os
import time
from functools import partial
from typing import TYPE_CHECKING

from stator.config import Config
from stator.control.numbers import LEVEL_SIGNAL, STACKS_SIGNAL
from stator.control.state import SharedState
from stator.processes.service import ServiceProcesses
from stator.roster.roster import Roster
from stator.settings.command_line import Loaded
from stator.settings.masking import Mask
from stator.version import __version__
from stator.web.status.collections import LastCollections

if TYPE_CHECKING:
    from stator.child.process import ChildProcess
    from stator.web.checks import Checks
    from stator.web.status.facts import RegistrationFacts, Status


def page_status(
    config: Config,
    run_id: str,
    checks: "Checks",
    collections: LastCollections,
    processes: ServiceProcesses,
    *,
    roster: Roster,
    program: "ChildProcess | None",
) -> "Status":
    """Returns what the page shows, in whichever process."""
    from stator.web.status.facts import About, Status

    about = About(config.roster.service.name, run_id)
    registration = partial(_registration, config.registrar_name, config.roster.service.name, roster)
    pids = partial(_pids, program) if program else tuple
    return Status(about, checks, collections, processes, registration, time.time, pids)


def publish_start(state: SharedState, loaded: Loaded[Config], run_id: str, bound: tuple[str, int], mask: Mask) -> None:
    """Shows what is known of the service at its start."""
    config, service = loaded.config, loaded.config.roster.service
    state.publish(
        kind="wrapped" if loaded.command else "program",
        state="starting",
        service=service.name,
        version=dict(service.meta).get("version", ""),
        stator=__version__,
        run_id=run_id,
        pid=os.getpid(),
        host=bound[0],
        port=bound[1],
        service_port=service.port,
        program=mask(os.fsencode(loaded.command[0]).decode(errors="backslashreplace")) if loaded.command else "",
        registration="not registered yet",
        level=config.logger.level,
        signals={"level": int(LEVEL_SIGNAL), "stacks": int(STACKS_SIGNAL)},
    )


def _registration(registrar: str, name: str, roster: Roster) -> "RegistrationFacts":
    """Returns what the page says of the registration, in whichever process."""
    from stator.web.status.facts import RegistrationFacts

    if registrar == "none":
        return RegistrationFacts("nowhere")
    state, confirmed = roster.metrics.registration()
    if (service := roster.service()) is None:
        return RegistrationFacts(state, registrar, name, confirmed=confirmed)
    return RegistrationFacts(state, registrar, name, service.id, service.address, service.port, confirmed)


def _pids(program: "ChildProcess") -> list[int]:
    """Returns the ids of the wrapped program's processes, in whichever process."""
    return [each.pid for each in program.metrics.processes()]
