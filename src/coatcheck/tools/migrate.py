"""`coatcheck migrate FROM TO`: the live sessions of one store brought to another (`coatcheck.migration`)."""

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from coatcheck.errors import SessionError, StoreUnavailable
from coatcheck.migration import Progress, Report, migrate_async
from coatcheck.tools.housekeeping import Failed, encrypted, exists, secret, without_password

__all__ = ["migrate"]

WIDTH: Final = 30
_EXPRESS: Final = "express+"
_FILE: Final = click.Path(dir_okay=False, path_type=Path)
_RATE: Final = click.FloatRange(min=0, min_open=True)


class _Bar:
    """How far it is: a bar on a terminal, a line a second elsewhere."""

    def __init__(self) -> None:
        self._is_watched = sys.stderr.isatty()
        self._began = self._said_at = time.monotonic()
        self.looked_at = 0
        self._open = False

    def at(self, progress: Progress) -> None:
        """So far by now."""
        self.looked_at = progress.looked_at
        now = time.monotonic()
        if now - self._said_at < (0.1 if self._is_watched else 1.0):
            return
        self._said_at, self._open = now, self._is_watched
        text = _shown(progress, now - self._began, bar=self._is_watched)
        click.echo(f"\r{text}\033[K" if self._is_watched else text, err=True, nl=not self._is_watched)

    def end(self) -> None:
        """Make room for what is said next."""
        if self._open:
            click.echo("\r\033[K", err=True, nl=False)


def _shown(progress: Progress, seconds: float, *, bar: bool) -> str:
    done, of = progress.looked_at, progress.of
    what = "sessions looked at" if progress.walk == 1 else "sessions verified"
    rate = f", {done / seconds:,.0f} a second" if progress.walk == 1 and seconds > 0 else ""
    if not of:
        return f"{done:,} {what}{rate}"
    share = min(done / of, 1.0)
    drawn = f"[{'#' * round(WIDTH * share):<{WIDTH}}] " if bar else ""
    return f"{drawn}{share:.0%} {done:,} of {of:,} {what}{rate}"


@click.command()
@click.argument("source", metavar="FROM", envvar="COATCHECK_FROM")
@click.argument("target", metavar="TO", envvar="COATCHECK_TO")
@click.option(
    "--move", "--dual-read", is_flag=True, help="Carry over while applications use Moving(TO, FROM)."
)
@click.option("--dry-run", is_flag=True, help="Look, and write nothing.")
@click.option("--resume", metavar="FILE", type=_FILE, help="Note the progress here; go on from it.")
@click.option("--rate", type=_RATE, metavar="N", help="At most so many sessions a second.")
@click.option(
    "--user-id",
    metavar="PATH",
    help="From Express: where a session says who is logged in; passport.user if not given.",
)
@click.option(
    "--from-secret-env",
    "old",
    metavar="NAME",
    multiple=True,
    help="The variable with a secret of Encrypted(FROM).",
)
@click.option(
    "--to-secret-env",
    "new",
    metavar="NAME",
    multiple=True,
    help="The variable with one of Encrypted(TO), the newest first.",
)
def migrate(
    source: str, target: str, old: tuple[str, ...], new: tuple[str, ...], resume: Path | None, **given: Any
) -> None:
    """Bring the live sessions of one store to another.

    FROM and TO are URLs, or $COATCHECK_FROM and $COATCHECK_TO, which keep their passwords out of the list of processes. With
    express+ before it, a URL is that of a store of an Express application: express+redis://cache:6379/0.

    Without --move it is a copy: for applications that are stopped, or for a rehearsal. It may be interrupted and begun again.
    """
    bar = _Bar()
    with _told(source, target, bar, resume):
        for url in (source, target):
            exists(url.removeprefix(_EXPRESS), make=False)
        places = [_place(source, old), _place(target, new)]
        try:
            report = asyncio.run(_run(*places, resume=resume, on_progress=bar.at, **given))
        finally:
            bar.end()
    _say(report, dry=given["dry_run"], move=given["move"])


async def _run(source: Any, target: Any, **given: Any) -> Report:
    try:
        return await migrate_async(source, target, **given)
    finally:
        for place in (source, target):
            close: Callable[[], Awaitable[None]] | None = getattr(place, "aclose", None)
            if close is not None:
                await close()


def _place(url: str, names: tuple[str, ...]) -> Any:
    return encrypted(url, [secret(name) for name in names], False) if names else url


@contextmanager
def _told(source: str, target: str, bar: _Bar, resume: Path | None) -> Iterator[None]:
    """What goes wrong in one line, without a password; and how to go on."""
    try:
        yield
    except SessionError as error:
        text = without_password(without_password(str(error), source), target)
        raise Failed(text, exit_code=3 if isinstance(error, StoreUnavailable) else 1) from error
    except KeyboardInterrupt:
        how = (
            f"the same command with --resume {resume}"
            if resume is not None
            else "the same command; what is done is done"
        )
        click.echo(f"\nstopped after {bar.looked_at:,} sessions; to go on: {how}", err=True)
        sys.exit(130)


def _say(report: Report, *, dry: bool, move: bool) -> None:
    verb = "moved" if move else "copied"
    click.echo(f"{report.seen:,} sessions looked at, {report.done:,} {'would be ' if dry else ''}{verb}")
    for count, what in (
        (report.there, "were in TO already"),
        (report.over, "had ended or expired"),
        (report.late, "came later: somebody still begins sessions in FROM, or changes them there"),
        (report.ended, "copies ended in TO, since their originals had ended"),
        (report.differs, "have changed in both; TO keeps its own"),
        (report.refused, "were refused"),
        (report.unreadable, "could not be read"),
    ):
        if count:
            click.echo(f"{count:,} {what}")
    for reason, count in report.why.items():
        click.echo(f"  {count:,} times: {reason}")
    if dry:
        return
    if not report.is_whole:
        raise Failed("FROM has sessions that are not in TO: see above, and run it again")
    click.echo("verified: every session of FROM that can be brought over is in TO, or has ended")
