"""The settings of a wrapped program."""

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from attrs import frozen

from stator.log.logger import Log
from stator.settings.declare import positive, setting
from stator.settings.duration import Duration
from stator.settings.masking import mask_target

if TYPE_CHECKING:
    from stator.child.output import OutputLog
    from stator.child.process import ChildProcess


def _signal(name: str) -> signal.Signals | None:
    try:
        return signal.Signals[name if name.startswith("SIG") else f"SIG{name}"]
    except KeyError:
        return None


@frozen(eq=False, repr=False)
class ChildConfig:
    """How a wrapped program is started, checked and stopped."""

    health: str = setting(
        "",
        desc="when the wrapped program is healthy, a target as in STTR_MONITOR_CHECKS; unset: its port accepts",
        show=lambda _config, target: mask_target(target),
    )
    start_timeout: Duration = setting(Duration.parse("1m"), desc="time until it must be healthy", check=positive)
    stop_signal: str = setting("TERM", desc="signal that asks it to stop, ex: QUIT")
    stop_timeout: Duration = setting(Duration.parse("30s"), desc="time until it is killed after that", check=positive)
    log: Literal["raw", "json"] = setting(
        "raw", desc="its output; raw: as it is, json: each line of stdout and stderr becomes one of our log, on stdout"
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        """Yields that there is no such signal."""
        if _signal(self.stop_signal) is None:
            yield "stop_signal", "a signal's name, such as TERM, QUIT or INT"

    def build(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        check: Callable[[], bool] | None,
        output: "OutputLog",
        log: Log,
    ) -> "ChildProcess":
        """Returns the program, which is not started yet; `check` says whether it is healthy."""
        from stator.child.metrics import ChildMetrics
        from stator.child.process import ChildProcess

        stop_signal = _signal(self.stop_signal) or signal.SIGTERM
        name = os.fsencode(command[0]).decode(errors="backslashreplace")
        logged = output if self.log == "json" else None
        start_timeout, stop_timeout = self.start_timeout.seconds, self.stop_timeout.seconds
        return ChildProcess(
            command, environ, stop_signal, start_timeout, stop_timeout, ChildMetrics(name), check, logged, log
        )
