"""Waits for threads in the event loop that runs, be it asyncio's or trio's, and lets threads await in it."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextvars import ContextVar
from typing import Any, TypeAlias, TypeVar

from attrs import frozen

from stator.concurrency.single_flight import CollectionTimeout, Outcome, Run

T = TypeVar("T")
Awaiter: TypeAlias = Callable[[Awaitable[object], float], Outcome[object]]
"""Awaits something for some seconds at most, from a thread; its outcome is a CollectionTimeout if it takes longer."""


def in_trio() -> bool:
    """Returns whether the caller runs in trio's event loop."""
    trio = sys.modules.get("trio")  # nothing runs in it where nobody has imported it
    return trio is not None and trio.lowlevel.in_trio_run()


def call_soon_in_trio() -> Run:
    """Returns what runs functions in the event loop, trio's, that runs now; the same for each call in it."""
    import trio

    run: Run = trio.lowlevel.current_trio_token().run_sync_soon
    return run


@frozen(repr=False)
class InTwoIterations:
    """Runs functions in an event loop of asyncio, an iteration later than `call_soon`; equal for the same loop.

    Requests that lie in their sockets by then are read first, and share the call: under load it is half as many calls.
    """

    loop: asyncio.AbstractEventLoop

    def __call__(self, function: Callable[[], object]) -> None:
        """Runs a function that raises nothing."""
        self.loop.call_soon(self.loop.call_soon, function)


async def result_of(future: "Future[T]") -> T:
    """Waits until a future that a thread completes is done, and returns its result."""
    if not in_trio():
        return await asyncio.wrap_future(future)
    import trio

    done, run = trio.Event(), call_soon_in_trio()
    future.add_done_callback(lambda _: run(done.set))
    await done.wait()
    return future.result()


def awaiter() -> Awaiter:
    """Returns what awaits in the event loop that runs now, for a thread."""
    if in_trio():
        import trio

        token = trio.lowlevel.current_trio_token()
        return lambda coming, seconds: trio.from_thread.run(_await_in_trio, coming, seconds, trio_token=token)
    loop = asyncio.get_running_loop()
    return lambda coming, seconds: asyncio.run_coroutine_threadsafe(_await(coming, seconds), loop).result()


def await_alone(coming: Awaitable[object], seconds: float) -> Outcome[object]:
    """Awaits in an event loop of its own, asyncio's."""
    return asyncio.run(_await(coming, seconds))


AWAITER: ContextVar[Awaiter] = ContextVar("stator.awaiter", default=await_alone)
"""What awaits for a request, in whichever thread: in the event loop that serves the request, or in one of its own."""


async def _await(coming: Awaitable[object], seconds: float) -> Outcome[object]:
    try:
        async with asyncio.timeout(seconds) as limit:
            return Outcome(0.0, await coming)
    except SystemExit as exits:
        return Outcome(0.0, error=exits)  # raised in the event loop it would end the application
    except TimeoutError as late:
        return Outcome(0.0, error=CollectionTimeout() if limit.expired() else late)


async def _await_in_trio(coming: Awaitable[Any], seconds: float) -> Outcome[object]:
    import trio

    with trio.move_on_after(seconds):
        try:
            return Outcome(0.0, await coming)
        except SystemExit as exits:
            return Outcome(0.0, error=exits)
    return Outcome(0.0, error=CollectionTimeout())
