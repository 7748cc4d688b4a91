"""The commands about what a store holds: `sweep`, `reseal`, `setup`, `stats`, `list`, `show`, `end`.

Each opens the store, does one thing through a `SessionManager`, and closes it. What goes wrong is one line, without a password,
and an exit code: 1 if it could not be done or is not there, 2 for a command that was not understood, 3 if the store cannot be
reached.
"""

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from shlex import quote
from typing import Any, Final, TypeVar, cast
from urllib.parse import unquote, urlsplit

import click
import msgspec

from coatcheck.core.ports import Checks, SetsUp
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, SessionError, StoreUnavailable
from coatcheck.flows import Device
from coatcheck.manager import SessionManager
from coatcheck.stores import hide_password

__all__ = ["COMMANDS", "Failed", "encrypted", "exists", "secret", "without_password"]

F = TypeVar("F", bound=Callable[..., Any])
VARIABLE: Final = "COATCHECK_STORE"
EXPRESS: Final = "express+"
"""How the URL of an Express application's store begins."""
BATCH: Final = 1000
REPORT_EVERY: Final = 10.0
"""Seconds between two lines about a long sweep, where nobody watches a terminal."""


class Failed(click.ClickException):
    """What went wrong, in one line."""

    def __init__(self, message: str, *, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code  # type: ignore[misc]  # click reads it from the instance


class _Warnings(logging.Handler):
    """The log, for who looks at a terminal: warnings in a line each. What is an error ends the command, and is said once."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno == logging.WARNING:
            click.echo(f"Warning: {record.getMessage()}", err=True)


_WARNINGS: Final = _Warnings()


def _given(context: click.Context, parameter: click.Parameter, url: str | None) -> str:
    if not url:
        raise click.UsageError(f"which store? Give --store URL, or set {VARIABLE}.")
    return url


def _store_option(command: F) -> F:
    words = f"The store's URL, or ${VARIABLE}, which keeps its password out of the list of processes."
    return click.option("--store", "url", metavar="URL", envvar=VARIABLE, callback=_given, help=words)(
        command
    )


_as_json: Final = click.option("--json", "as_json", is_flag=True, help="For programs.")


@contextmanager
def _opened(
    url: str, *, make: bool = False, around: Callable[[str], Any] | None = None
) -> Iterator[SessionManager]:
    """The sessions of a store; what goes wrong with it is said in one line, and not in the log too.

    `around` opens the store of that URL with something around it.
    """
    with _in_one_line(url):
        exists(url, make=make)
        with (
            closing(around(url)) if around is not None else nullcontext(url) as store,
            SessionManager(store) as sessions,
        ):
            yield sessions


@contextmanager
def _in_one_line(url: str) -> Iterator[None]:
    """What goes wrong with the store of this URL is said in one line."""
    logging.getLogger("coatcheck").addHandler(_WARNINGS)
    try:
        yield
    except StoreUnavailable as error:
        raise Failed(without_password(str(error), url), exit_code=3) from error
    except SessionError as error:
        raise Failed(without_password(str(error), url)) from error


def exists(url: str, *, make: bool) -> None:
    """Raise ConfigurationError for what is not there: a mistyped path must not become an empty store, and another process's
    memory is out of reach.
    """
    scheme = url.partition(":")[0].lower()
    if scheme == "memory":
        raise ConfigurationError(
            "store='memory:' is in the application's own process: nobody else can see it"
        )
    if scheme == "sqlite" and not make:
        path = Path(unquote(urlsplit(url).path[1:]))
        if not path.exists():
            raise ConfigurationError(
                f"store={url!r}: there is no file {str(path)!r}; `coatcheck setup` makes one"
            )


def without_password(text: str, url: str) -> str:
    """Belt and braces: a driver may have put the URL into its words."""
    text = " ".join(text.replace(url, hide_password(url)).split())
    credentials = url.partition("://")[2].rpartition("@")[0]
    password = credentials.partition(":")[2]
    return text.replace(password, "***") if len(password) > 3 else text


# ------------------------------------------------------------------------------------------------------------ upkeep


@click.command()
@click.argument("url", metavar="[URL]", envvar=VARIABLE, required=False)
@click.option("--store", metavar="URL", help=f"The store's URL, in place of the argument or ${VARIABLE}.")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Delete at most so many, and leave the rest for the next time.",
)
def sweep(url: str | None, store: str | None, limit: int | None) -> None:
    """Delete expired sessions: for cron, where an application writes too seldom to do it along the way.

    Works in short batches, so that nobody else has to wait. An interrupted sweep has done what it has said.
    """
    url = store or url
    if not url:
        raise click.UsageError(f"which store? Give its URL, or set {VARIABLE}.")
    with _opened(url) as sessions:
        swept, more = _sweep(sessions, limit)
    click.echo(
        f"{swept} expired sessions deleted" + (f"; there may be more (--limit {limit})" if more else "")
    )


def _sweep(sessions: SessionManager, limit: int | None) -> tuple[int, bool]:
    """How many went, and whether the limit ended it."""
    swept, progress = 0, _Progress("expired sessions deleted")
    while limit is None or swept < limit:
        gone = sessions.sweep(BATCH if limit is None else min(BATCH, limit - swept))
        if not gone:
            progress.end()
            return swept, False
        swept += gone
        progress.at(swept)
    progress.end()
    return swept, True


@click.command()
@_store_option
@click.option(
    "--secret-env",
    "names",
    metavar="NAME",
    required=True,
    multiple=True,
    help="The environment variable that holds the newest secret of Encrypted(…); once more for each older one.",
)
@click.option("--allow-plaintext", is_flag=True, help="Seal records that were never sealed, too.")
@click.option("--after", metavar="CURSOR", help="Go on where an interrupted one says that it stopped.")
def reseal(url: str, names: tuple[str, ...], after: str | None, *, allow_plaintext: bool) -> None:
    """Encrypt every session anew with the newest secret, so that the older ones can go. The application may run meanwhile.

    Interrupted, it has done what it has said; begun again, it looks at all and seals the rest.
    """
    secrets = [secret(name) for name in names]
    with _opened(url, around=lambda inside: encrypted(inside, secrets, allow_plaintext)) as sessions:
        seen, sealed, unreadable = _reseal(sessions, _cursor(after))
    click.echo(f"{seen} sessions looked at, {sealed} sealed anew")
    if unreadable:
        raise Failed(
            f"{unreadable} could not be read: they were sealed with none of these secrets"
            + ("" if allow_plaintext else ", or never (--allow-plaintext)")
            + "; do not take a secret away yet"
        )


def secret(name: str) -> str:
    """What an environment variable holds. Raises UsageError for one that is not there."""
    value = os.environ.get(name)
    if not value:
        raise click.UsageError(f"--secret-env {name}: there is no such variable, or it is empty")
    return value


def encrypted(url: str, secrets: list[str], allow_plaintext: bool) -> Any:
    """The store of a URL, with its encryption around it."""
    from coatcheck.stores.encrypted import Encrypted  # who encrypts nothing need not have `cryptography`

    return Encrypted(url, secret=secrets, allow_plaintext=allow_plaintext)


def _cursor(after: str | None) -> object:
    try:
        return None if after is None else json.loads(after)
    except ValueError as error:
        raise click.UsageError(f"--after {after}: give what the interrupted one printed") from error


def _reseal(sessions: SessionManager, cursor: object) -> tuple[int, int, int]:
    """How many were looked at, sealed anew, and could not be read."""
    seen = sealed = unreadable = 0
    progress = _Progress("sessions looked at")
    try:
        while True:
            step = sessions.reseal(cursor, limit=BATCH)
            seen, sealed = seen + step.seen, sealed + step.resealed
            unreadable, cursor = unreadable + step.unreadable, step.cursor
            if cursor is None:
                return seen, sealed, unreadable
            progress.at(seen)
    except BaseException:
        progress.end()
        if isinstance(cursor, str | int):
            click.echo(f"stopped after {seen}; to go on: --after {quote(json.dumps(cursor))}", err=True)
        raise
    finally:
        progress.end()


class _Progress:
    """How far a long task is: a line that is written over on a terminal, a line now and then in a log."""

    def __init__(self, what: str) -> None:
        self._what, self._is_watched = what, sys.stderr.isatty()
        self._said_at = time.monotonic()
        self._open = False

    def at(self, count: int) -> None:
        """So many by now."""
        now = time.monotonic()
        if now - self._said_at < (0.1 if self._is_watched else REPORT_EVERY):
            return
        self._said_at, self._open = now, self._is_watched
        click.echo(
            f"\r{count:,} {self._what}" if self._is_watched else f"{count} {self._what} so far",
            err=True,
            nl=not self._is_watched,
        )

    def end(self) -> None:
        """Make room for what is said next."""
        if self._open:
            click.echo("\r\033[K", err=True, nl=False)


@click.command()
@_store_option
def setup(url: str) -> None:
    """Make the tables and indexes that the store needs. Safe to run again, and on several machines at once.

    express+ before the URL: the store of an Express application.
    """
    if url.startswith(EXPRESS):
        needed = _set_up_express(url.removeprefix(EXPRESS))
    else:
        with _opened(url, make=True) as sessions:
            needed = isinstance(sessions.flows.store, SetsUp)
            sessions.setup()
            sessions.check()
    click.echo(f"{hide_password(url)} {'is set up' if needed else 'needs no tables'}, and works")


def _set_up_express(url: str) -> bool:
    """Make what the Node package would make. Returns whether it needs anything."""
    from coatcheck.dialects.express.stores import open_store  # who has no Node need not wait for it

    with _in_one_line(url):
        exists(url, make=True)
        with closing(cast(Any, open_store(url, None))) as backend:
            store = backend.blocking()
            if isinstance(store, SetsUp):
                run_now(store.setup())
            if isinstance(store, Checks):
                run_now(store.check())
            return isinstance(store, SetsUp)


@click.command()
@_store_option
@_as_json
def stats(url: str, *, as_json: bool) -> None:
    """How many sessions live, and how soon the store answers."""
    with _opened(url) as sessions:
        began = time.perf_counter()
        sessions.check()
        answered = time.perf_counter() - began
        try:
            count: int | None = sessions.count()
        except ConfigurationError:  # it does not count
            count = None
    if as_json:
        click.echo(
            json.dumps(
                {"store": hide_password(url), "sessions": count, "check_ms": round(1000 * answered, 2)}
            )
        )
        return
    click.echo(f"store     {hide_password(url)}")
    click.echo(f"sessions  {'(this store does not count)' if count is None else count}")
    click.echo(f"check     {1000 * answered:.1f} ms")


# ---------------------------------------------------------------------------------------------------------- sessions


@click.command("list")
@_store_option
@click.option("--user", required=True, help="Whose sessions.")
@_as_json
def list_(url: str, user: str, *, as_json: bool) -> None:
    """The live sessions of a user, newest login first."""
    with _opened(url) as sessions:
        devices = sessions.of(user).list()
    if as_json:
        click.echo(json.dumps([_plain(device) for device in devices]))
    elif not devices:
        click.echo(f"{_shown(user)} has no sessions")
    for device in devices if not as_json else []:
        seen = _time(device.last_seen_at)
        click.echo(
            f"{device.handle}  seen {seen}  {device.method}  {device.address}  {_shown(device.user_agent)}"
        )


@click.command()
@_store_option
@click.argument("handle")
@_as_json
def show(url: str, handle: str, *, as_json: bool) -> None:
    """One session by its handle. What is in it is its user's, and not shown."""
    with _opened(url) as sessions:
        device = sessions.find(handle)
    if device is None:
        raise Failed(f"there is no session {_shown(handle)}: it ended, expired, or never was")
    plain = _plain(device)
    if as_json:
        click.echo(json.dumps(plain))
        return
    for name, value in plain.items():
        text = " ".join(value) if isinstance(value, list | tuple) else value
        click.echo(f"{name:<17} {'' if text is None else _shown(text)}".rstrip())


@click.command()
@_store_option
@click.argument("handle", required=False)
@click.option("--user", help="End all sessions of this user, and every login of theirs that is under way.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def end(url: str, handle: str | None, user: str | None, *, yes: bool) -> None:
    """End one session by its handle, or all of a user."""
    if (handle is None) == (user is None):
        raise click.UsageError("give either a handle or --user")
    if user is not None:
        if not yes:
            click.confirm(f"End every session of {_shown(user)}?", abort=True)
        with _opened(url) as sessions:
            count = sessions.of(user).end_all()
        click.echo(f"{count} sessions of {_shown(user)} ended")
        return
    assert handle is not None
    with _opened(url) as sessions:
        ended = sessions.end(handle)
    if not ended:
        raise Failed(f"there is no session {_shown(handle)}: it ended, expired, or never was")
    click.echo(f"{_shown(handle)} ended")


def _plain(device: Device) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(device)
    return plain


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M}"


def _shown(text: str) -> str:
    """For a terminal: a browser says what it likes of itself, escape sequences too."""
    return text if text.isprintable() else repr(text)


COMMANDS: Final = (sweep, reseal, setup, stats, list_, show, end)
