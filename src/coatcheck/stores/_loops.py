"""One thing for each event loop: connections belong to the loop that opened them, and loops come and go."""

from asyncio import AbstractEventLoop
from typing import TypeVar

__all__ = ["take_ended"]

T = TypeVar("T")


def take_ended(by_loop: dict[AbstractEventLoop, T]) -> list[T]:
    """Take out what belonged to loops that are closed, and return it: it cannot be closed in an orderly way any more.

    Loops of other threads may come meanwhile: `list` copies a dict in one step, where going through it would raise.
    """
    taken = [(loop, by_loop.pop(loop, None)) for loop in list(by_loop) if loop.is_closed()]
    return [thing for _, thing in taken if thing is not None]
