"""A command on its way from an event loop to a Redis server, and what a reply, or the lack of one, makes of it.

Whoever sent a command waits for a future. A caller that is cancelled cancels that future and nothing else: its reply is read and
thrown away, so no reply ever reaches another's request.
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import msgspec
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError

from coatcheck.errors import StoreError
from coatcheck.stores._redis_client import Settings, pack
from coatcheck.stores._redis_errors import may_repeat, refused, translated
from coatcheck.stores._redis_scripts import ANYTHING, Script

__all__ = ["Line", "LineOf", "Work", "give_up", "is_again", "is_unheard_again"]


class Work(msgspec.Struct, eq=False, gc=False):  # nothing that it refers to refers back to it
    """One command. `left` is how often it may be sent again; `answers` are the types that its reply may have; `script`, `keys`
    and `args` are what it was made of, if it may turn out that the server does not know the script.
    """

    packed: bytes
    reads: bool
    left: int
    future: "asyncio.Future[Any]"
    answers: frozenset[type] = ANYTHING
    script: Script | None = None
    keys: tuple[str, ...] = ()
    args: tuple[Any, ...] = ()

    def __repr__(self) -> str:
        """Without what it says: a session's key is in it."""
        return f"<Work {self.script}>"

    def succeed(self, reply: Any) -> None:
        if not self.future.done():
            self.future.set_result(reply)

    def fail(self, error: BaseException, cause: BaseException | None = None) -> None:
        if not self.future.done():
            error.__cause__ = cause
            self.future.set_exception(error)


class Line(Protocol):
    """How the commands of one event loop reach one server."""

    pool: Any

    def join(self, work: Work) -> None:
        """Send it, with what else comes in the same turn of the loop."""
        ...

    def retire(self) -> None:
        """Nothing more will come: let what is under way end, and the connections go."""
        ...

    async def close(self) -> None:
        """The same, waiting for it."""
        ...


LineOf = Callable[[asyncio.AbstractEventLoop, Any, Settings], Line]
"""Makes a line over a pool of redis-py's connections."""


def is_again(work: Work, reply: Any, waited: Any, settings: Settings) -> bool:
    """Hand out a reply; `waited` is what the server said of its replicas, None if it was not asked. True: the command, which may
    be another now, is to be sent again.
    """
    if not isinstance(reply, ResponseError):
        try:
            work.succeed(settings.judge(reply, waited))
        except StoreError as error:
            work.fail(error, error.__cause__)
    elif isinstance(reply, NoScriptError) and work.script is not None:
        work.packed, work.script = pack(work.script.in_full(work.keys, work.args)), None
        return True
    elif isinstance(reply, ReadOnlyError) and work.left > 0:
        work.left -= 1
        return True
    else:
        work.fail(refused(reply, settings.name), reply)
    return False


def is_unheard_again(work: Work, error: BaseException, settings: Settings) -> bool:
    """What comes of a command that was sent, and whose connection failed with `error`. True: it is to be sent again."""
    if work.left > 0 and may_repeat(error, sent=True, reads=work.reads):
        work.left -= 1
        return True
    work.fail(translated(error, settings.name, sent=True), error)
    return False


def give_up(works: Iterable[Work], failure: StoreError) -> None:
    """Tell each that it was not sent, and why; in an exception of its own, since each is raised somewhere else."""
    for work in works:
        work.fail(type(failure)(*failure.args), failure.__cause__)
