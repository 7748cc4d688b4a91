"""What requests do: every verb a handler has, each in the smallest form that can go wrong (PROTOCOL rule 30).

Requests write values that name them, so that the oracles know whose value survived.
"""

from collections.abc import Awaitable, Callable
from typing import Final

from coatcheck.testing.explorer.requests import Handler, Operation

__all__ = ["BY_USER", "CORE", "FACTORS", "OPERATIONS", "OTHER_DEVICE", "REST"]

OTHER_DEVICE: Final = "s2.l1"
"""The handle of another session of the victim, on another device."""


async def _set_a(h: Handler) -> None:
    h.set("a", h.trace.me)


async def _set_b(h: Handler) -> None:
    h.set("b", h.trace.me)


async def _nested(h: Handler) -> None:
    h.set_in("d", h.trace.me, 1)
    h.set_in("d", "x", h.trace.me)


async def _increment(h: Handler) -> None:
    h.increment("n")


async def _apply(h: Handler) -> None:
    h.append("log", h.trace.me)


async def _delete(h: Handler) -> None:
    for key in ("b", "n", "d"):
        h.delete(key)


async def _clear(h: Handler) -> None:
    h.clear()


async def _clear_and_set(h: Handler) -> None:
    h.clear()
    h.set("a", h.trace.me)


async def _take(h: Handler) -> None:
    await h.take("once")


async def _set_and_take(h: Handler) -> None:
    h.set("a", h.trace.me)
    await h.take("once")
    h.increment("n")


async def _regenerate(h: Handler) -> None:
    h.session.regenerate()


async def _login(h: Handler) -> None:
    h.login()


async def _login_twice(h: Handler) -> None:
    h.login()
    await h.save()
    h.login()


async def _login_other(h: Handler) -> None:
    h.login("bob")


async def _login_limited(h: Handler) -> None:
    h.login()


async def _begin_login(h: Handler) -> None:
    h.begin_login()


async def _complete_login(h: Handler) -> None:
    h.complete_login()


async def _logout(h: Handler) -> None:
    h.logout()


async def _logout_and_set(h: Handler) -> None:
    h.logout()
    h.set("bye", h.trace.me)


async def _logout_and_fail(h: Handler) -> None:
    h.set("a", h.trace.me)
    h.logout()


async def _destroy(h: Handler) -> None:
    h.logout()
    await h.save()


async def _fail(h: Handler) -> None:
    h.set("a", h.trace.me)
    h.increment("n")


async def _touch(h: Handler) -> None:
    h.session.touch()


async def _shorten(h: Handler) -> None:
    h.shorten()


async def _read(h: Handler) -> None:
    h.read()


async def _save(h: Handler) -> None:
    h.set("a", h.trace.me)
    h.increment("n")
    await h.save()
    h.set("b", h.trace.me)


async def _regenerate_and_save(h: Handler) -> None:
    h.session.regenerate()
    await h.save()
    h.set("b", h.trace.me)


async def _reload(h: Handler) -> None:
    h.increment("n")
    await h.reload()
    h.set("a", h.trace.me)


async def _list(h: Handler) -> None:
    await h.list("alice")


async def _end_one(h: Handler) -> None:
    """From the device list: end the session that this very cookie names, and another one."""
    for handle in (h.trace.ticket.locator if h.trace.ticket else OTHER_DEVICE, OTHER_DEVICE):
        await h.flows.end_one("alice", handle)


async def _end_all(h: Handler) -> None:
    await h.end_all(h.user)


async def _end_others(h: Handler) -> None:
    if h.trace.user is not None:
        await h.end_all(others_only=True)


async def _change_password(h: Handler) -> None:
    await h.end_all(h.user)
    h.login()


def _name(run: Callable[[Handler], Awaitable[None]]) -> str:
    return run.__name__.removeprefix("_")


def _table(*operations: Operation) -> dict[str, Operation]:
    return {operation.name: operation for operation in operations}


def _of(
    run: Callable[[Handler], Awaitable[None]], *ends: str, limit: int | None = None, fails: bool = False
) -> Operation:
    return Operation(_name(run), run, frozenset(ends), "other" in ends, limit, fails, lists=run is _list)


CORE: Final = _table(
    _of(_set_a),
    _of(_nested),
    _of(_increment),
    _of(_delete),
    _of(_clear),
    _of(_take),
    _of(_regenerate),
    _of(_login, "other"),
    _of(_logout, "own"),
    _of(_read),
    _of(_end_all, "user"),
)
"""Triples are made of these."""

REST: Final = _table(
    _of(_set_b),
    _of(_apply),
    _of(_clear_and_set),
    _of(_set_and_take),
    _of(_login_twice, "other"),
    _of(_login_other, "other"),
    _of(_begin_login),
    _of(_complete_login, "other"),
    _of(_login_limited, "other", "oldest", limit=3),
    _of(_logout_and_set, "own"),
    _of(_logout_and_fail, "own", fails=True),
    _of(_destroy, "own"),
    _of(_fail, fails=True),
    _of(_touch),
    _of(_shorten),
    _of(_save),
    _of(_regenerate_and_save),
    _of(_reload),
    _of(_list),
    _of(_end_one, "handle"),
    _of(_end_others, "others"),
    _of(_change_password, "user", "other"),
)

OPERATIONS: Final = CORE | REST
"""All of them, by name; the rows of PROTOCOL rule 30 and what a handler can do beside. `renew` is a start state."""

FACTORS: Final = frozenset(("begin_login", "complete_login"))
"""Those that have to do with a login that is pending."""

BY_USER: Final = frozenset(
    ("login_limited", "list", "end_one", "end_all", "end_others", "change_password"),
)
"""Those that ask a store for `ByUser`."""
