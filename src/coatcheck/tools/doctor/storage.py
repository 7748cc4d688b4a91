"""Where sessions are kept: the store answers, all workers share it, nobody else can read it, and its clock is right."""

import asyncio
import stat
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

from coatcheck.core.ports import Checks, TellsTime
from coatcheck.core.stepping import run_now
from coatcheck.errors import SessionError, WrongFace
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores import hide_password
from coatcheck.stores.cookie import CookieStore
from coatcheck.stores.memory import MemoryStore
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.tools.doctor.inspection import Inspected
from coatcheck.tools.doctor.report import CannotLook, Check, Finding

__all__ = ["STORAGE"]

SKEW: Final = 5.0
"""Seconds by which two clocks may differ: many times what NTP leaves."""
_ENCRYPTED: Final = ("rediss", "valkeys", "mongodb+srv")
_SSLMODES: Final = ("require", "verify-ca", "verify-full")


def every_worker_sees_every_session(app: Inspected) -> Iterator[Finding]:
    """All workers share the sessions"""
    if not isinstance(app.backend, MemoryStore):
        return
    several = app.workers > 1
    yield Finding(
        61,
        "high" if several else "medium",
        "sessions are in one process's memory",
        f"memory: with {app.workers} workers: each knows its own sessions, and no logout reaches the others"
        if several
        else "memory: every restart signs everybody out, and a second worker would know nothing of the first",
        "give store= a URL that all processes share: sqlite:///sessions.db, redis://…, postgresql://…",
    )


def a_logout_reaches_copied_cookies(app: Inspected) -> Iterator[Finding]:
    """A session can be ended, whoever has its cookie"""
    if _is_known_to_nobody(app):
        hours = app.options.timeouts.in_seconds().absolute / 3600
        yield Finding(
            27,
            "medium",
            "a copied cookie works on after the logout",
            f'CookieStore(revocation="none"): for up to {hours:g} h, and nobody can end it',
            'CookieStore(revocation="epoch", store=…), or --ignore 27 if no session is worth a theft',
        )


def the_store_answers(app: Inspected) -> Iterator[Finding]:
    """The store answers, and can be written to"""
    try:
        _with_store(app, "check")
    except SessionError as error:
        where = hide_password(app.url) if app.url else type(app.backend).__name__
        text = _words(str(error), app.url)
        yield Finding(
            117,
            "high",
            "the store does not work",
            text if where in text else f"{where}: {text}",
            "start it, correct its URL, or make its tables: coatcheck setup --store URL",
        )


def the_store_keeps_time(app: Inspected) -> Iterator[Finding]:
    """The store's clock agrees with ours"""
    if isinstance(app.backend, MemoryStore | SQLiteStore) or _is_known_to_nobody(app):
        return  # the clock is ours
    began = time.time()
    try:
        theirs = _with_store(app, "time")
    except SessionError as error:
        raise CannotLook("a store that answers") from error
    if theirs is None:
        raise CannotLook("a store that tells its time (Redis, PostgreSQL, MongoDB)")
    off = max(began - theirs, theirs - time.time())
    if off > SKEW:
        yield Finding(
            68,
            "low",
            "the clocks of this machine and of the store differ",
            f"{off:.0f} s",
            "run an NTP client on both: deadlines are this machine's time, the store's clean-up is its own",
        )


def the_way_to_the_store_is_closed(app: Inspected) -> Iterator[Finding]:
    """The way to the store is encrypted, and asks for a password"""
    parts = urlsplit(app.url or "")
    if not parts.hostname or _is_local(parts.hostname):
        return
    where = hide_password(app.url or "")
    if not _is_encrypted(app.url or ""):
        yield Finding(
            127,
            "medium",
            "sessions travel to the store in the clear",
            f"{where} is another machine, without TLS",
            "rediss://…, ?sslmode=verify-full, ?tls=true, or a tunnel of your own (then --ignore 127)",
        )
    if not parts.password and "@" not in parts.netloc:
        yield Finding(
            127, "medium", "the store asks for no password", where, "give it a user and a password in the URL"
        )


def the_file_is_its_owners(app: Inspected) -> Iterator[Finding]:
    """Files with sessions and secrets are their owner's alone"""
    for file, word in ((_sqlite_file(app.backend), "sessions"), (app.secret_file, "the secret")):
        path = Path(file) if file is not None else None
        if path is not None and path.exists() and (mode := stat.S_IMODE(path.stat().st_mode)) & 0o077:
            yield Finding(
                127,
                "medium",
                f"other users of this machine may read {word}",
                f"{path} has mode {mode:04o}",
                f"chmod 600 {path}",
            )


STORAGE: Final[tuple[Check, ...]] = (
    every_worker_sees_every_session,
    a_logout_reaches_copied_cookies,
    the_store_answers,
    the_store_keeps_time,
    the_way_to_the_store_is_closed,
    the_file_is_its_owners,
)


def _is_known_to_nobody(app: Inspected) -> bool:
    """Whether the sessions are in cookies, and nowhere else."""
    backend: Any = app.backend
    while (inside := getattr(backend, "_inside", None)) is not None:  # of what observes a store
        backend = inside
    return isinstance(backend, CookieStore) and backend.revocation == "none"


def _with_store(app: Inspected, verb: str) -> Any:
    """Ask the store: over a connection of its own where there is a URL; as the application would where it was handed in."""
    if app.url is None:
        try:
            return _ask(app.sessions, verb)
        except SessionError:
            raise
        except Exception as error:  # a client that was made for another event loop, say
            name = type(app.backend).__name__
            raise CannotLook(
                f"a store that can be asked from here: {name} raised {type(error).__name__}"
            ) from error
    try:
        with SessionManager(app.url, options=app.options, outage=app.sessions._outage) as sessions:
            return _ask(sessions, verb)
    except WrongFace:
        return _ask(AsyncSessionManager(app.url, options=app.options, outage=app.sessions._outage), verb)


def _ask(sessions: SessionManager | AsyncSessionManager, verb: str) -> Any:
    store = sessions.flows.store
    if not isinstance(store, Checks if verb == "check" else TellsTime):
        return None
    flow = getattr(store, verb)
    if isinstance(sessions, SessionManager):
        return run_now(flow())

    async def ask() -> Any:
        return await flow()

    return asyncio.run(ask())


def _words(text: str, url: str | None) -> str:
    """A driver may have put the URL into its words."""
    if url is None:
        return text
    password = unquote(urlsplit(url).password or "")
    text = text.replace(url, hide_password(url))
    return text.replace(password, "***") if len(password) > 3 else text


def _is_local(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _is_encrypted(url: str) -> bool:
    parts = urlsplit(url)
    query = {name.lower(): values[-1].lower() for name, values in parse_qs(parts.query).items()}
    return (
        parts.scheme.lower().partition("+")[0] in _ENCRYPTED
        or parts.scheme.lower() in _ENCRYPTED
        or query.get("sslmode", query.get("ssl", "")) in _SSLMODES
        or "true" in (query.get("tls"), query.get("ssl"))
        or any(name.startswith("ssl_") for name in query)
    )


def _sqlite_file(store: object) -> str | None:
    return str(store._path) if isinstance(store, SQLiteStore) else None
