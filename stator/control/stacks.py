"""What this process is doing now: the stack of each thread, and of each asyncio task, as text."""

import threading
import traceback
from collections.abc import Iterable, Iterator

# Documented, and there is no other way: https://docs.python.org/3/library/sys.html#sys._current_frames
from sys import _current_frames as current_frames
from types import FrameType
from typing import TYPE_CHECKING, Any

from attrs import frozen

LONGEST = 200_000  # characters of all stacks
_NAMES = 5  # of those that have the same stack
# Where a coroutine, a generator and an asynchronous generator stand, and what each of them awaits.
_INNER = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))

if TYPE_CHECKING:
    import asyncio


@frozen
class Stacks:
    """The stacks of a process: for each the names of the threads or tasks that have it, then the innermost frame."""

    threads: int
    tasks: int
    text: str

    def fields(self) -> dict[str, Any]:
        """Returns them as fields of a line."""
        return {"threads": self.threads, "tasks": self.tasks, "stacks": self.text}


def stacks(frame: FrameType | None = None) -> Stacks:
    """Returns the stacks of this process now; `frame` is the calling thread's, as a signal handler gets it.

    Tasks are those of the event loop that runs in the calling thread.
    """
    frames = current_frames()
    if frame is not None:
        frames[threading.get_ident()] = frame
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    threads = [(f"thread {names.get(ident, ident)}", _lines(_outward(each))) for ident, each in frames.items()]
    tasks = [(f"task {task.get_name()}", _lines(_awaited(task))) for task in _tasks()]
    text = "\n\n".join([*_grouped(threads), *_grouped(tasks)])
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]}\n... {len(text) - LONGEST} characters more"
    return Stacks(len(threads), len(tasks), text)


def _tasks() -> "list[asyncio.Task[Any]]":
    import asyncio  # slow to import

    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return []
    return sorted(asyncio.all_tasks(loop), key=lambda task: task.get_name())


def _outward(frame: FrameType | None) -> Iterator[tuple[FrameType, int]]:
    yield from traceback.walk_stack(frame)


def _awaited(task: "asyncio.Task[Any]") -> list[tuple[FrameType, int]]:
    """Returns the frames of a task's coroutine and of all that it awaits, the innermost first."""
    frames = list[tuple[FrameType, int]]()
    inner: object = task.get_coro()
    while inner is not None:
        names = next((each for each in _INNER if hasattr(inner, each[0])), None)
        frame = getattr(inner, names[0]) if names else None
        if frame is None:
            break  # a future, or it has ended
        frames.append((frame, frame.f_lineno))
        inner = getattr(inner, names[1]) if names else None
    return frames[::-1]


def _lines(frames: Iterable[tuple[FrameType, int]]) -> str:
    # As tracebacks are written in the log.
    found = traceback.StackSummary.extract(iter(frames))
    return "\n".join(f"{each.filename}:{each.lineno} in {each.name}: {each.line}" for each in found)


def _grouped(named: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yields the names of all that have a stack, and that stack."""
    groups: dict[str, list[str]] = {}
    for name, text in named:
        groups.setdefault(text, []).append(name)
    for text, names in groups.items():
        more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        yield f"{', '.join(names[:_NAMES])}{more}\n{text}".rstrip()
