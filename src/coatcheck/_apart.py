"""A job that an event loop finishes whatever becomes of whoever waits for it."""

import asyncio
from collections.abc import Coroutine
from typing import Any

__all__ = ["Apart"]

_running: set[asyncio.Task[Any]] = set()
"""An event loop holds its tasks only weakly."""


class Apart:
    """A job in a task of its own, which goes on whatever becomes of whoever waits for it.

    It tells by itself that it is over: each callback of a task's takes a turn of the loop, a microsecond a request.
    """

    __slots__ = ("_error", "_is_over", "_task", "_waiter")

    def __init__(self, job: Coroutine[Any, Any, object]) -> None:
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._is_over = False
        self._task = asyncio.get_running_loop().create_task(self._run(job))
        _running.add(self._task)

    async def _run(self, job: Coroutine[Any, Any, object]) -> None:
        try:
            await job
        except BaseException as error:
            self._error = error  # for whoever waits; one who was cancelled does not
            if not isinstance(error, Exception):
                raise
        finally:
            self._is_over = True
            _running.discard(self._task)
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    async def wait(self) -> None:
        """Until it is over. Raises what it raised. To cancel this cancels nothing else."""
        if not self._is_over:
            self._waiter = self._task.get_loop().create_future()
            await self._waiter
        if self._error is not None:
            raise self._error
