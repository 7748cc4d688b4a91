"""asyncio, asked for when it is needed: to import it takes half of the time that all the rest of `import coatcheck` takes, and a
program that has no event loop (a WSGI application, a command) never needs it.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

__all__ = ["is_cancellation", "running_loop", "sleep"]


def running_loop() -> "asyncio.AbstractEventLoop | None":
    """The event loop that runs in this thread; None if there is none."""
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def is_cancellation(error: BaseException) -> bool:
    """Whether this is what a task is cancelled with."""
    import asyncio

    return isinstance(error, asyncio.CancelledError)


async def sleep(seconds: float) -> None:
    """`asyncio.sleep`."""
    import asyncio

    await asyncio.sleep(seconds)
