"""Other services' keys: a JWK set behind a URL, read ahead of need and never while a token is verified.

    verifier = TokenVerifier(RemoteKeys("https://id.example/.well-known/jwks.json"), issuer="https://id.example", audience="api")

The set is fetched by a thread of its own: when the one at hand is `every` old, and when a token names a key that nobody knows,
but not sooner than `cool_down` after the last time, however many such tokens come (PyJWT CVE-2026-48524; checklist 138). The
tokens that come meanwhile are judged by the set at hand. When fetching fails it is kept, for `keep_for` at most.

The standard library fetches it: one GET now and then needs no dependency, and of a client that follows proxies, cookies and
redirects by itself there would be more to switch off than is here to write.
"""

import logging
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import inf
from socket import SHUT_RDWR, inet_aton, socket
from typing import Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from coatcheck.core.policy import duration
from coatcheck.errors import ConfigurationError, StoreUnavailable
from coatcheck.tokens.keys import Key, KeyRing
from coatcheck.tokens.strict_json import strict_object

__all__ = ["RemoteKeys"]

MAX_SIZE: Final = 256 * 1024
"""Octets a set may have; those of large providers have 2,000 to 20,000."""
MAX_KEYS: Final = 100
_REDIRECTS: Final = 3
_logger: Final = logging.getLogger("coatcheck")
Duration = str | float | timedelta


class RemoteKeys:
    """The keys that another service publishes: `TokenVerifier` takes it in place of a KeyRing.

    url        where its JWK set is; https
    alg        which algorithm a key is for that does not say so; where given, keys for another one are left out
    every      how old a set may be before the next one is fetched
    cool_down  shortest time from one attempt to the next; more than `timeout`
    keep_for   for how long a set is good if no other can be fetched
    timeout    longest time for one attempt, once the host's name has been looked up
    allow_http also take an http URL, of this machine only
    context    for a certificate authority of your own: an `ssl.SSLContext`
    monotonic  tells seconds that are never set back
    on_error   is told why an attempt failed; by default it is logged

    Making it fetches nothing. Call `refresh()` when your application starts, so that a wrong URL is noticed then; without that,
    the first token that comes has it fetched, and is told to come again (StoreUnavailable, HTTP 503).

    Raises ConfigurationError.
    """

    def __init__(
        self,
        url: str,
        *,
        alg: str | None = None,
        every: Duration = "5m",
        cool_down: Duration = 30,
        keep_for: Duration = "24h",
        timeout: Duration = 5,
        allow_http: bool = False,
        context: ssl.SSLContext | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.url = _checked(url, allow_http)
        self._alg, self._context, self._monotonic = alg, context, monotonic
        self._every = duration(every, setting="every")
        self._cool_down = duration(cool_down, setting="cool_down")
        self._keep_for = duration(keep_for, setting="keep_for")
        self._timeout = duration(timeout, setting="timeout")
        if self._cool_down <= self._timeout or self._every < self._cool_down:
            raise ConfigurationError(
                f"timeout={timeout!r}, cool_down={cool_down!r}, every={every!r}: each must be longer than the one before it"
            )
        if self._keep_for < self._every:
            raise ConfigurationError(f"keep_for={keep_for!r}: give as long as every={every!r}, or longer")
        self._on_error = on_error or self._log
        self._lock = threading.Lock()
        self._ring: KeyRing | None = None
        self._text = b""
        self._due = self._may_again = -inf
        self._good_until = -inf

    def at(self, _now: float) -> KeyRing:
        """The keys at hand. Never waits. Raises StoreUnavailable if there are none, or none that are good any more."""
        at = self._monotonic()
        if at >= self._due:
            self._begin(at)
        ring = self._ring
        if ring is None or at >= self._good_until:
            raise StoreUnavailable(f"the keys of {self.url} could not be fetched yet; try again later")
        return ring

    def missed(self, _now: float) -> None:
        """A token names a key that is not among them: perhaps there are new ones."""
        at = self._monotonic()
        if at >= self._may_again:
            self._begin(at)

    def refresh(self) -> None:
        """Fetch them now, and wait for it. In async code: `await asyncio.to_thread(keys.refresh)`.

        Raises StoreUnavailable if that fails; the set at hand is kept then.
        """
        with self._lock:
            self._put_off(self._monotonic())
        try:
            self._fetch()
        except (OSError, HTTPException, ValueError) as error:
            raise StoreUnavailable(
                f"the keys of {self.url} could not be fetched: {_reason(error)}"
            ) from error

    def _begin(self, at: float) -> None:
        """Have a thread fetch them, unless another was first."""
        if not self._lock.acquire(blocking=False):
            return
        try:
            if at < self._may_again:
                return
            self._put_off(at)
        finally:
            self._lock.release()
        self._start()

    def _start(self) -> None:
        threading.Thread(target=self._try, name="coatcheck-keys", daemon=True).start()

    def _put_off(self, at: float) -> None:
        self._may_again = self._due = at + self._cool_down

    def _try(self) -> None:
        try:
            self._fetch()
        except Exception as error:  # the set at hand stays
            self._on_error(error)

    def _fetch(self) -> None:
        text = _got(self.url, self._timeout, self._context)
        if text != self._text or self._ring is None:  # else what it has seen of headers is worth keeping
            self._ring, self._text = _ring_of(text, self._alg), text
        at = self._monotonic()
        self._due, self._good_until = at + self._every, at + self._keep_for

    def _log(self, error: Exception) -> None:
        _logger.warning("the keys of %s could not be fetched: %s", self.url, _reason(error))

    def __repr__(self) -> str:
        return f"<RemoteKeys of {self.url}>"


def _reason(error: Exception) -> str:
    return repr(f"{type(error).__name__}: {error}"[:200])  # a server's words: escaped


# ------------------------------------------------------------------------------------------------ what is asked


def _checked(url: str, allow_http: bool) -> str:
    given: object = url
    parts = urlsplit(url) if isinstance(given, str) and url.isascii() and url.isprintable() else urlsplit("")
    wanted = "give the https URL of a JWK set"
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise ConfigurationError(f"url={url!r}: {wanted}")
    if parts.username is not None or parts.fragment:
        raise ConfigurationError(f"url: {wanted}, without a user, password or fragment")
    try:
        _ = parts.port
    except ValueError as error:
        raise ConfigurationError(f"url={url!r}: this port cannot be") from error
    address = _address(parts.hostname)
    if address is not None and _is_forbidden(address):
        raise ConfigurationError(
            f"url={url!r}: {wanted}; an address like this is of the machine's own network"
        )
    if parts.scheme == "http" and not (allow_http and _is_loopback(parts.hostname, address)):
        raise ConfigurationError(
            f"url={url!r}: {wanted}: whoever is between could put in keys of their own. allow_http=True is for this machine only"
        )
    return url


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """The address that a host name spells, also as one number, as system libraries read it; None for a real name."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass
    try:
        return ip_address(inet_aton(host))
    except (OSError, ValueError):
        return None


def _is_forbidden(address: IPv4Address | IPv6Address) -> bool:
    """Link-local: where clouds tell a machine its own secrets. And what is no address of one machine."""
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_link_local or address.is_multicast or address.is_unspecified


def _is_loopback(host: str, address: IPv4Address | IPv6Address | None) -> bool:
    return host == "localhost" if address is None else address.is_loopback


def _got(url: str, timeout: float, context: ssl.SSLContext | None) -> bytes:
    """What is behind a URL. Raises OSError, HTTPException or ValueError."""
    until = time.monotonic() + timeout
    origin = _origin(urlsplit(url))
    for _ in range(1 + _REDIRECTS):
        parts = urlsplit(url)
        if _origin(parts) != origin:
            raise ValueError("it redirects to another host")
        left = until - time.monotonic()
        if left <= 0:
            break
        found = _asked(parts, left, context)
        if isinstance(found, bytes):
            return found
        url = urljoin(url, found)
    raise TimeoutError("too many redirects, or too slow")


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _asked(parts: SplitResult, timeout: float, context: ssl.SSLContext | None) -> bytes | str:
    """The body of one answer, or where it redirects to."""
    scheme, host, port = _origin(parts)
    link: HTTPConnection
    if scheme == "https":
        link = HTTPSConnection(str(host), port, timeout=timeout, context=context)
    else:
        link = HTTPConnection(str(host), port, timeout=timeout)
    with closing(link):
        # The time-out of a socket is for each piece: one that drips would take as long as it likes.
        held = list[socket]()
        cut = threading.Timer(timeout, _cut, (link, held))
        cut.daemon = True
        cut.start()
        try:
            link.connect()
            held.append(link.sock)  # the link forgets it when the answer comes
            _check_peer(link)
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            link.request("GET", path, headers={"Accept": "application/jwk-set+json, application/json"})
            return _read(link.getresponse())
        finally:
            cut.cancel()


def _cut(link: HTTPConnection, held: list[socket]) -> None:
    for sock in held or [link.sock]:
        try:
            socket.shutdown(sock, SHUT_RDWR)  # of TLS, too, just the connection: another thread is reading
        except (OSError, TypeError):  # it has ended meanwhile, or has yet to begin
            pass


def _check_peer(link: HTTPConnection) -> None:
    """A name may lead to what its URL may not say."""
    address = _address(str(link.sock.getpeername()[0]))
    if address is None or _is_forbidden(address):
        raise ValueError("the host's name leads to an address of the machine's own network")


def _read(answer: HTTPResponse) -> bytes | str:
    if answer.status in (301, 302, 303, 307, 308):
        return answer.getheader("Location", "")
    if answer.status != 200:
        raise ValueError(f"status {answer.status}")
    text = answer.read(MAX_SIZE + 1)
    if len(text) > MAX_SIZE:
        raise ValueError(f"more than {MAX_SIZE} octets")
    if answer.length:
        raise ValueError("the answer ended early")
    return text


# ------------------------------------------------------------------------------------------------ what is answered


def _ring_of(text: bytes, alg: str | None) -> KeyRing:
    """The keys of a set that are of use: RFC 7517 section 5 has others ignored. Raises ValueError for a set that is not sound."""
    keys = strict_object(text).get("keys")
    if not isinstance(keys, list) or len(keys) > MAX_KEYS:
        raise ValueError(f'no {{"keys": […]}} of at most {MAX_KEYS} keys')
    return KeyRing(found for found in (_key_of(jwk, alg) for jwk in keys) if found is not None)


def _key_of(jwk: Any, alg: str | None) -> Key | None:
    if not isinstance(jwk, dict):
        raise ValueError("a key that is no object")
    if jwk.get("kty") == "oct":
        raise ValueError("it publishes a shared secret: whoever reads it could sign")
    try:
        return Key.from_jwk(jwk, alg=alg).public()
    except ConfigurationError:  # for encryption, of another kind, or too weak
        return None
