"""HTTPS for everybody: which request is sent on from plain HTTP, where to, and what browsers are told to remember of it.

A redirect is a convenience for people who typed an address; what makes the next visit safe is Strict-Transport-Security (RFC
6797), since a browser that has seen it does not speak plain HTTP to this host any more. It is never sent over plain HTTP, where
anybody could have written it (section 7.2), and never to this very machine, where it would take every other project on
`localhost` with it.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from coatcheck.core import policy
from coatcheck.core.events import Event, Listener, listening, log
from coatcheck.core.origin import Arrival, Proxy, is_forwarded, is_loopback, origin, trusted_proxies
from coatcheck.errors import ConfigurationError

__all__ = ["Answer", "Hsts", "HttpsRules"]

YEAR: Final = 31_536_000
_HOST: Final = re.compile(
    rb"([a-z0-9_](?:[a-z0-9_.-]{0,251}[a-z0-9_.])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{0,5})?", re.IGNORECASE
)
"""A host as browsers send it (RFC 9110 section 7.2): a name or an address, no user, no path, nothing escaped."""
_NAME: Final = re.compile(r"(?:\*\.)?[a-z0-9_][a-z0-9_.-]{0,252}|\[[0-9a-f:.]{2,45}\]")
_KEPT: Final = "/%:@!$&'()*+,;=~-._"
"""What a path may hold as it is (RFC 3986 section 3.3)."""


@dataclass(frozen=True, kw_only=True)
class Hsts:
    """What `Strict-Transport-Security` says. Raises ConfigurationError for what browsers, or the preload list, do not accept."""

    max_age: int | str | timedelta = YEAR
    """Seconds, a timedelta, or a time with its unit ("365d"), for which a browser speaks HTTPS to this host and nothing else; 0
    withdraws it."""
    include_subdomains: bool = False
    """For every name below this one too. Those that have no HTTPS yet can then not be reached."""
    preload: bool = False
    """Agrees that browsers ship with this domain in their list: hard to undo. Submit it at hstspreload.org."""

    def __post_init__(self) -> None:
        for name in ("include_subdomains", "preload"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"Hsts({name}={getattr(self, name)!r}): give True or False")
        seconds = self.seconds
        if self.preload and not (self.include_subdomains and seconds >= YEAR):
            raise ConfigurationError(
                f"Hsts(preload=True): hstspreload.org asks for include_subdomains=True and max_age of at least {YEAR} (a year);"
                " leave preload out until both are so"
            )

    @property
    def seconds(self) -> int:
        """`max_age` in seconds."""
        if self.max_age == 0:
            return 0
        return int(policy.duration(self.max_age, setting="Hsts.max_age"))

    @property
    def header(self) -> str:
        """The value of the header (RFC 6797 section 6.1)."""
        parts = [f"max-age={self.seconds}"]
        parts += ["includeSubDomains"] * self.include_subdomains + ["preload"] * self.preload
        return "; ".join(parts)


class Answer(NamedTuple):
    """What a request is answered with in the application's place."""

    status: int
    reason: str
    body: bytes
    headers: tuple[tuple[str, str], ...]


def _answer(status: int, reason: str, text: str, *more: tuple[str, str]) -> Answer:
    # Not kept by any cache: a proxy that was not configured yet makes loops, and a browser would keep one for good.
    body = text.encode("ascii")
    plain = (("content-type", "text/plain; charset=utf-8"), ("content-length", str(len(body))))
    return Answer(status, reason, body, (*plain, ("cache-control", "no-store"), *more))


_BAD_HOST: Final = _answer(400, "Bad Request", "This host is not served here.\n")
_NO_HTTPS: Final = _answer(403, "Forbidden", "This is served over HTTPS only.\n")


class HttpsRules:
    """Which requests go on, compiled from their settings.

    hsts           what browsers are told to remember; None: nothing
    allowed_hosts  where a redirect may lead: names, or "*.shop.example" for all below one. None: to the host that was asked for
    exempt         paths that are answered over plain HTTP too, such as "/healthz", exactly as written
    redirect       False: plain HTTP is refused (403), for an API whose callers should notice that their secrets are in the open
    port           where HTTPS is served, if not at 443
    proxy          as for sessions: whose word counts on how the client came
    on_event       told when a proxy nobody has named says that the client spoke HTTPS: that makes a loop

    Raises ConfigurationError for each wrong setting.
    """

    coatcheck_provides = "https"  # known to `coatcheck doctor` by this, in every framework

    def __init__(
        self,
        *,
        hsts: Hsts | None = Hsts(),  # frozen
        allowed_hosts: Collection[str] | None = None,
        exempt: Collection[str] = (),
        redirect: bool = True,
        port: int | None = None,
        proxy: Proxy = None,
        on_event: Listener | Sequence[Listener] = log,
    ) -> None:
        if hsts is not None and not isinstance(hsts, Hsts):
            raise ConfigurationError(f"hsts={hsts!r}: give coatcheck.Hsts(…), or None")
        if not isinstance(redirect, bool):
            raise ConfigurationError(f"redirect={redirect!r}: give True or False")
        if port is not None and (type(port) is not int or not 0 < port < 65536):
            raise ConfigurationError(
                f"port={port!r}: give the port that HTTPS is served at, or leave it out for 443"
            )
        self.hsts = hsts.header if hsts is not None else None
        self._hosts = None if allowed_hosts is None else _hosts(allowed_hosts)
        self._exempt = _paths(exempt)
        self._redirect, self._port = redirect, "" if port in (None, 443) else f":{port}"
        self._proxies = trusted_proxies(proxy)
        self._on_event, self._has_told = listening(on_event), False

    def is_secure(self, arrival: Arrival) -> bool:
        """Whether the client spoke HTTPS."""
        return origin(arrival, self._proxies).scheme in ("https", "wss")

    def hsts_for(self, arrival: Arrival) -> str | None:
        """What the response says of Strict-Transport-Security, if anything."""
        if self.hsts is None or not self.is_secure(arrival) or is_loopback(arrival.host):
            return None
        return self.hsts

    def answer(self, arrival: Arrival, target: bytes, now: float) -> Answer | None:
        """What a request is answered with in the application's place; None: it goes on.

        target  path and query as the client sent them
        now     seconds since the epoch
        """
        if self.is_secure(arrival) or arrival.path in self._exempt:
            return None
        if is_loopback(arrival.host) and not is_forwarded(arrival):
            return None
        self._notice_loop(arrival, now)
        if not self._redirect:
            return _NO_HTTPS
        host = self._host(arrival.host)
        if host is None:
            return _BAD_HOST
        location = f"https://{host}{self._port}{_target(target)}"
        return _answer(308, "Permanent Redirect", "This is served over HTTPS.\n", ("location", location))

    def _host(self, given: bytes) -> str | None:
        """Where a redirect leads, without the port of plain HTTP; None: nowhere (checklist 107)."""
        match = _HOST.fullmatch(given)
        if match is None:
            return None
        host = match[1].decode("ascii").lower()
        if self._hosts is None or host in self._hosts:
            return host
        above = host.split(".")
        return host if any("*." + ".".join(above[n:]) in self._hosts for n in range(1, len(above))) else None

    def _notice_loop(self, arrival: Arrival, now: float) -> None:
        said = arrival.forwarded_proto.lower() + arrival.forwarded.lower()
        if b"https" in said and not self._has_told:
            self._has_told = True
            self._on_event(
                Event(
                    "proxy.untrusted",
                    detail=f"{arrival.peer[:50]!r} says that the client spoke HTTPS, and is not believed: redirects will go"
                    ' round in circles if it is your proxy. Then name it: proxy="its address" (said once)',
                    at=now,
                )
            )


def _target(target: bytes) -> str:
    """Path and query for a Location: what is no character of a URL is escaped, so nothing can begin another header, or host."""
    path, question, query = target.partition(b"?")
    if not path.startswith(b"/"):
        path = b"/"
    return quote(path, safe=_KEPT) + ("?" if question else "") + quote(query, safe=_KEPT + "?")


def _hosts(given: Collection[Any]) -> frozenset[str]:
    if isinstance(given, str) or not given:
        raise ConfigurationError(f"allowed_hosts={given!r}: give a list of names, or leave it out")
    for name in given:
        if not isinstance(name, str) or not _NAME.fullmatch(name.lower()):
            raise ConfigurationError(
                f"allowed_hosts has {name!r}: give a bare name, such as 'shop.example' or '*.shop.example', without scheme, port"
                " or path"
            )
    return frozenset(name.lower() for name in given)


def _paths(given: Collection[Any]) -> frozenset[str]:
    if isinstance(given, str):
        raise ConfigurationError(f"exempt={given!r}: give a list of paths, such as [{given!r}]")
    for path in given:
        if not isinstance(path, str) or not path.startswith("/"):
            raise ConfigurationError(f"exempt has {path!r}: give paths that begin with /, such as '/healthz'")
    return frozenset(given)
