"""The command line of the doctor: what to look at, from its words; what came of it, on the terminal and as an exit status."""

import logging
import os
import re
import ssl
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import click

from coatcheck.core.cookies import CookieSettings
from coatcheck.errors import ConfigurationError, SessionError, UsageError, WeakSecret, WrongFace
from coatcheck.exchange import Exchange
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores import hide_password
from coatcheck.tools.doctor.browser import Site, Unreachable, Untrusted
from coatcheck.tools.doctor.crossing import CROSSING
from coatcheck.tools.doctor.holding import HOLDING
from coatcheck.tools.doctor.inspection import Inspected, inspect, load
from coatcheck.tools.doctor.packages import PACKAGES
from coatcheck.tools.doctor.render import as_json, as_text, hiding
from coatcheck.tools.doctor.report import Finding, Report, examine, together
from coatcheck.tools.doctor.settings import SECRET, SETTINGS
from coatcheck.tools.doctor.storage import STORAGE
from coatcheck.tools.doctor.tour import Plan, tour

__all__ = ["doctor"]

_SECRET_NAME: Final = re.compile("secret|key|token|passw|pwd|credential|dsn|_url|database", re.IGNORECASE)
"""Environment variables whose values are never printed, whoever puts them into an error message."""
_GIVE_TARGET: Final = "what should be looked at? Give module:app, an https:// URL, or --store URL"


class CouldNotLook(click.ClickException):
    """Nothing was found out: exit status 2, so that CI takes it neither for clean nor for a finding."""

    exit_code = 2


@click.command()
@click.argument("target", required=False)
@click.option("--store", metavar="URL", help="A store alone, before there is an application.")
@click.option(
    "--secret-env", metavar="NAME", help="With --store: the environment variable that holds the secret."
)
@click.option(
    "--secret-file", type=click.Path(path_type=Path), help="With --store: the file that holds the secret."
)
@click.option("--factory", is_flag=True, help="module:function makes the application.")
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    envvar="WEB_CONCURRENCY",
    default=1,
    help="Processes that serve it.",
)
@click.option("--login-url", metavar="PATH", help="Where the login form is, and where it is sent.")
@click.option(
    "--form",
    "fields",
    metavar="NAME=VALUE",
    multiple=True,
    help="A field of the login form, such as user=ada.",
)
@click.option(
    "--password-env", metavar="NAME", help="The environment variable that holds the password of the login."
)
@click.option(
    "--password-field", metavar="NAME", default="password", help="What the form calls it (password)."
)
@click.option("--form-as-json", is_flag=True, help="The login takes JSON, and not a form.")
@click.option("--logout-url", metavar="PATH", help="Where the sign-out form is sent.")
@click.option("--private-url", metavar="PATH", help="A page that only opens after the login.")
@click.option("--public-url", metavar="PATH", help="A page or file without a session.")
@click.option("--http-url", metavar="URL", help="Where plain HTTP is answered, if not on port 80.")
@click.option("--cookie", metavar="NAME", help="What the session cookie is called, if that cannot be seen.")
@click.option(
    "--ca", type=click.Path(exists=True, path_type=Path), help="A certificate to trust, of a test site say."
)
@click.option(
    "--timeout", type=click.FloatRange(min=0.1), default=10.0, help="Seconds to wait for an answer (10)."
)
@click.option(
    "--ignore", type=int, multiple=True, metavar="LINE", help="A line of the checklist to leave out."
)
@click.option("--json", "is_json", is_flag=True, help="For programs.")
def doctor(target: str | None, *, ignore: tuple[int, ...], is_json: bool, **words: Any) -> None:
    """What an auditor would find, in an application before it is deployed, or at a URL from outside.

    \b
    coatcheck doctor myapp:app
    coatcheck doctor --store redis://db.internal --secret-env SESSION_SECRET
    coatcheck doctor https://app.example --login-url /login --form user=probe \\
        --password-env PROBE_PASSWORD --private-url /me --logout-url /logout

    Exit status 0: nothing to mend. 1: findings. 2: could not look.
    """
    logging.getLogger("coatcheck").addHandler(
        logging.NullHandler()
    )  # what goes wrong is said once, as a finding
    secrets = _secrets(os.environ, words)
    hide = hiding(secrets)
    try:
        report = _report(target, ignore, words)
    except (Unreachable, UsageError) as error:
        raise CouldNotLook(hide(str(error))) from None
    click.echo(as_json(report, hide) if is_json else as_text(report, hide))
    sys.exit(report.status)


def _report(target: str | None, ignore: tuple[int, ...], words: Mapping[str, Any]) -> Report:
    if target is not None and target.startswith(("https://", "http://")):
        return _look_from_outside(target, ignore, words)
    if (target is None) == (words["store"] is None):
        raise click.UsageError(_GIVE_TARGET)
    if target is not None:
        return _look_inside(target, ignore, words)
    return _look_at_store(words["store"], ignore, words)


# ------------------------------------------------------------------------------------------------------------ inside


def _look_inside(target: str, ignore: tuple[int, ...], words: Mapping[str, Any]) -> Report:
    sys.path.insert(0, os.getcwd())
    try:
        found = inspect(load(target, factory=words["factory"]), workers=words["workers"])
    except ConfigurationError as error:
        return _refused(target, error)
    except (Exception, SystemExit) as error:
        # Only what it is called and says: its traceback may hold anything.
        raise CouldNotLook(
            hiding(_secrets(os.environ, words))(
                f"{target} cannot be imported: {type(error).__name__}: {error}"
            )
        ) from None
    if not found:
        raise CouldNotLook(
            f"{target}: no session of coatcheck's was found in it; is this the outermost application?"
        )
    return together(target, (_examined(target, one, ignore) for one in found))


def _examined(subject: str, found: Inspected, ignore: tuple[int, ...]) -> Report:
    return examine(subject, (*SETTINGS, *STORAGE, *PACKAGES), found, ignore=ignore)


def _refused(subject: str, error: ConfigurationError) -> Report:
    """It would not start, and says why: the message names the setting and the fix, and holds no secret."""
    weak = isinstance(error, WeakSecret)
    what, _, fix = str(error).partition(": ")
    return Report(
        subject,
        [Finding(18 if weak else 29, "high", "the application would not start", what, fix or what)],
    )


def _look_at_store(url: str, ignore: tuple[int, ...], words: Mapping[str, Any]) -> Report:
    subject = hide_password(url)
    secret, file = _secret(words)
    try:
        _exists(url)
        exchange = Exchange(CookieSettings(), file if file is not None else secret)
        found = Inspected(_manager(url), exchange, workers=words["workers"], secret_file=file)
    except WeakSecret as error:
        return _refused(subject, error)
    except SessionError as error:
        raise CouldNotLook(str(error)) from None
    except OSError as error:
        raise CouldNotLook(f"{file}: {error.strerror}") from None
    return examine(subject, (*SECRET, *STORAGE, *PACKAGES), found, ignore=ignore)


def _manager(url: str) -> SessionManager | AsyncSessionManager:
    try:
        return SessionManager(url)
    except WrongFace:
        return AsyncSessionManager(url)


def _secret(words: Mapping[str, Any]) -> tuple[Any, Path | None]:
    name, file = words["secret_env"], words["secret_file"]
    if (name is None) == (file is None):
        raise click.UsageError("where is the secret? Give --secret-env NAME or --secret-file PATH")
    return (None, file) if file is not None else (os.environ.get(name) or "", None)


def _exists(url: str) -> None:
    """A mistyped path must not become an empty store."""
    if url.lower().startswith("sqlite:"):
        path = Path(unquote(urlsplit(url).path[1:]))
        if not path.exists():
            raise ConfigurationError(
                f"store={url!r}: there is no file {str(path)!r}; `coatcheck setup` makes one"
            )


# ----------------------------------------------------------------------------------------------------------- outside


def _look_from_outside(url: str, ignore: tuple[int, ...], words: Mapping[str, Any]) -> Report:
    plan = _plan(url, words)
    try:
        seen = tour(plan)
    except Untrusted as error:
        what, fix = (
            "the certificate is not to be trusted",
            "renew it, or give the authority of a test site with --ca",
        )
        return Report(url, [Finding(39, "high", what, str(error), fix)])
    report = examine(url, (*CROSSING, *HOLDING), seen, ignore=ignore)
    report.trouble = seen.trouble
    return report


def _plan(url: str, words: Mapping[str, Any]) -> Plan:
    site = Site(url, _context(words["ca"]), words["timeout"])
    if not site.parts.hostname:
        raise UsageError(f"{url!r} names no host")
    if "@" in site.parts.netloc:
        raise UsageError(
            f"{hide_password(url)}: leave user and password out of the URL; --form and --password-env are for them"
        )
    there = {name: words[f"{name}_url"] for name in ("public", "private", "login", "logout")}
    pages = {name: site.at(path) if path is not None else None for name, path in there.items()}
    fields = dict(_fields(words)) if pages["login"] is not None else {}
    http = words["http_url"]
    if http is None and site.is_https and site.parts.port in (None, 443):
        http = f"http://{site.parts.hostname}{site.parts.path or '/'}"
    return Plan(site, http, **pages, fields=fields, cookie=words["cookie"], is_json=words["form_as_json"])


def _context(ca: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=None if ca is None else str(ca))
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"--ca {ca} is no certificate: {error}") from error


def _fields(words: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for field in words["fields"]:
        name, equals, value = field.partition("=")
        if not equals:
            raise click.UsageError(f"--form {name!r}: give NAME=VALUE")
        yield name, value
    name = words["password_env"]
    if name is not None:
        if not os.environ.get(name):
            raise click.UsageError(f"--password-env {name}: there is no such variable, or it is empty")
        yield words["password_field"], os.environ[name]


def _secrets(environment: Mapping[str, str], words: Mapping[str, Any]) -> list[str]:
    """What is never printed: the password, and whatever in the environment sounds like a secret; of a URL its password."""
    named = [environment.get(words[name] or "", "") for name in ("secret_env", "password_env")]
    sounding = [value for name, value in environment.items() if _SECRET_NAME.search(name) and len(value) > 7]
    return [_secret_part(value) for value in [*named, *sounding, words["store"] or ""]]


def _secret_part(value: str) -> str:
    try:
        return unquote(urlsplit(value).password or "") if "://" in value else value
    except ValueError:
        return value
