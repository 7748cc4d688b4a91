"""Who may pass with an access token: the rules of RFC 6750 and RFC 9449, once for every framework.

A token comes in the one `Authorization` header (never in a URL or a form: checklist 162), or in the cookie of `TokenCookies`,
which counts only for a request of our own pages. Whatever is wrong with a token, the answer is the same, and the reason is in
the log (checklist 160). Whoever brings none is told that one is needed, and not that theirs was bad (RFC 6750 section 3.1).

A token that is bound to its client's key comes as `Authorization: DPoP`, with a proof that the client has that key. As a bearer
token it is refused, whatever this gate was made with (checklist 182): the tokens themselves see to that.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, NoReturn

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.http import UNAVAILABLE, Answer, Asked, Refused, answered, fitting, json_answer
from coatcheck.bearer.proofs import proofs_of
from coatcheck.core import events
from coatcheck.core.events import Event, Listener
from coatcheck.core.policy import duration
from coatcheck.errors import ConfigurationError, InvalidToken, StoreUnavailable

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    from coatcheck.tokens import AccessClaims

    C = TypeVar("C", bound=AccessClaims, default=AccessClaims)
else:
    from typing import TypeVar

    C = TypeVar("C")

__all__ = ["C", "Gate", "Needs"]

_TOKEN: Final = re.compile(r"(?i:bearer|dpop) +([A-Za-z0-9\-._~+/]+=*)")
"""RFC 6750 section 2.1, RFC 9449 section 7.1, RFC 9110 section 11.1."""
_KEPT: Final = "coatcheck.bearer.proved"
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")
_QUOTABLE: Final = re.compile(r"[ !#-\[\]-~]+")


def _is_bearer(field: str) -> bool:
    """Whether this means to be a bearer token, however badly; another scheme is somebody else's business."""
    return field.strip()[:6].lower() == "bearer"


def _is_dpop(field: str) -> bool:
    return field.strip()[:4].lower() == "dpop"


class _Brought(NamedTuple):
    """A token, not looked at yet."""

    token: str
    bound: bool
    """It came with the scheme for tokens that are bound to a key."""


class Needs:
    """What a route asks of a token, checked when the application starts.

    scopes  all of them
    recent  how long ago the user may have proved who they are, "10m" or a timedelta (checklist 179): a refresh proves nothing
    """

    __slots__ = ("recent", "scopes")

    def __init__(self, scopes: Iterable[str] = (), recent: str | timedelta | None = None) -> None:
        self.scopes = (scopes,) if isinstance(scopes, str) else tuple(scopes)
        for scope in self.scopes:
            given: object = scope
            if not isinstance(given, str) or not _SCOPE.fullmatch(given):
                raise ConfigurationError(
                    f"scope {scope!r}: give one word each, such as 'orders:read' (RFC 6749 section 3.3)"
                )
        if recent is not None and not isinstance(recent, str | timedelta):
            raise ConfigurationError(f"recent={recent!r}: give a time with its unit, such as '10m'")
        self.recent = None if recent is None else duration(recent, setting="recent")


class Gate(Generic[C]):
    """The rules, over one application's tokens.

    tokens   `Tokens` or `AsyncTokens`; or a `TokenVerifier` or `BoundTokenVerifier`, which has only the keys and knows of no
             revocation
    cookies  the cookies that a browser may bring its token in; None: the header alone
    realm    what the challenge calls this part of the site
    url      where clients find the application, "https://api.example", with the prefix that a proxy takes off the path: for
             tokens that are bound to keys (`dpop=`)
    awaits   whether the adapter is async
    listen   have the store tell of logins that end from the first request on, in each process anew (`gunicorn --preload` forks)

    Raises ConfigurationError or WrongFace.
    """

    def __init__(
        self,
        tokens: Any,
        *,
        awaits: bool,
        cookies: TokenCookies | None = None,
        realm: str | None = None,
        url: str | None = None,
        listen: bool = False,
    ) -> None:
        self._tokens = fitting(tokens, awaits=awaits)
        if cookies is not None and not isinstance(cookies, TokenCookies):
            raise ConfigurationError(f"cookies={cookies!r}: give coatcheck.bearer.TokenCookies(…)")
        if listen and (awaits or not hasattr(tokens, "listen")):
            raise ConfigurationError(
                "listen=True is for Tokens in sync code; an async application says it in its lifespan, which"
                " coatcheck.bearer.asgi.listening makes"
            )
        self.cookies, self._listens = cookies, listen
        self._listening_in: int | None = None
        self._lock = threading.Lock()
        verifier = getattr(tokens, "verifier", tokens)
        self._check, self._clock = getattr(tokens, "authenticate", verifier.verify), verifier.clock
        self._proofs = proofs_of(tokens, url, example="https://api.example")
        if url is not None and self._proofs is None:
            raise ConfigurationError(
                f"url={url!r}: it is for tokens that are bound to keys: give Tokens(…, dpop=DPoP()) too"
            )
        sessions = getattr(tokens, "sessions", None)
        self._tell: Listener = events.log if sessions is None else sessions.flows.options.tell
        realm = verifier.audience if realm is None else realm
        if not isinstance(realm, str) or not _QUOTABLE.fullmatch(realm):
            raise ConfigurationError(f"realm={realm!r}: give printable ASCII without quotes and backslashes")
        self._bearer, self._dpop = f'Bearer realm="{realm}"', ""
        if self._proofs is not None:
            self._dpop = f'DPoP realm="{realm}", algs="{" ".join(self._proofs.algorithms)}"'
        self._nobody = self._refusal(401, {"error": "invalid_token"})
        self._invalid = tuple(self._refused("invalid_token", bound) for bound in (False, True))
        self._without_nonce = self._refused("use_dpop_nonce", True)
        self._foreign = json_answer(403, {"error": "cross_site_request"})

    async def admit(self, asked: Asked, needs: Needs) -> C:
        """The claims of whoever asks. Raises Refused if they may not pass."""
        brought = self._brought(asked)
        if brought is None:
            raise Refused(self._nobody.plus(*self._nonce()))
        claims = await self._claims(brought, asked)
        missing = [scope for scope in needs.scopes if scope not in claims.scopes]
        if missing:
            self._refuse("scope", claims.sid, self._too_little(needs, brought.bound))
        if needs.recent is not None and not self._is_recent(claims, needs.recent):
            self._refuse("auth_time", claims.sid, self._too_long_ago(needs.recent, brought.bound))
        return claims

    async def known(self, asked: Asked) -> C | None:
        """The claims of a token that came; None if none did. Raises Refused for one that is not good."""
        brought = self._brought(asked)
        return None if brought is None else await self._claims(brought, asked)

    async def _claims(self, brought: _Brought, asked: Asked) -> C:
        if self._listens:
            self._listen()
        try:
            if brought.bound:
                return await self._proved(brought.token, asked)
            claims: C = await answered(self._check(brought.token))
            return claims
        except InvalidToken as error:
            no_nonce = error.reason == "use_dpop_nonce"
            self._refuse(
                error.reason, None, self._without_nonce if no_nonce else self._invalid[brought.bound]
            )
        except StoreUnavailable as error:
            self._tell(Event("store.down", detail=str(error), at=self._clock()))
            raise Refused(UNAVAILABLE) from error

    async def _proved(self, token: str, asked: Asked) -> C:
        """The claims of a token whose client has its key. A proof is good once, and one request may be asked by two guards: what
        the first was told is kept with the request.
        """
        assert self._proofs is not None  # or else nothing is brought as a bound token
        about = self._proofs.about(asked, asked.target)
        kept = {} if asked.kept is None else asked.kept
        tokens, before, claims = kept.get(_KEPT, (None, None, None))
        if tokens is not self._tokens or before != (token, about):
            claims = await answered(self._tokens.authenticate_bound(token, **about))
            kept[_KEPT] = self._tokens, (token, about), claims
        found: C = claims
        return found

    def _brought(self, asked: Asked) -> _Brought | None:
        fields = asked.all("authorization")
        if len(fields) > 1:
            self._refuse("two_headers", None, self._invalid[False])
        if fields and self._is_ours(fields[0]):
            bound, found = _is_dpop(fields[0]), _TOKEN.fullmatch(fields[0])
            if found is None:
                self._refuse("malformed", None, self._invalid[bound])
            return _Brought(found[1], bound)
        token = self._from_cookie(asked)
        return None if token is None else _Brought(token, False)

    def _is_ours(self, field: str) -> bool:
        return _is_bearer(field) or (self._proofs is not None and _is_dpop(field))

    def _from_cookie(self, asked: Asked) -> str | None:
        token = None if self.cookies is None else self.cookies.access_of(asked)
        if token is not None and self.cookies is not None and not self.cookies.allow(asked):
            self._refuse("cross_site", None, self._foreign)
        return token

    # ---- what a good answer says besides

    def marks(self, asked: Asked) -> bool:
        """Whether `mark` has anything to say."""
        return self._came_in_cookie(asked) or bool(self._next_nonce(asked))

    def mark(self, asked: Asked, headers: Any, vary: Callable[[str], object]) -> None:
        """Put into the headers of a good answer what caches, and a client with a key, have to know.

        `headers` has `setdefault` and items, `vary` adds a name to Vary.
        """
        if self._came_in_cookie(asked):
            headers.setdefault("Cache-Control", "private")
            vary("Cookie")
        for name, nonce in self._next_nonce(asked):
            headers.setdefault("Cache-Control", "no-store")  # RFC 9449 section 8.2
            headers[name] = nonce

    def _came_in_cookie(self, asked: Asked) -> bool:
        """Whether the answer depends on a cookie, and so on whose browser asked: no shared cache may keep it (checklist 88)."""
        return self.cookies is not None and not any(map(self._is_ours, asked.all("authorization")))

    def _next_nonce(self, asked: Asked) -> tuple[tuple[str, str], ...]:
        return self._nonce() if asked.all("dpop") else ()

    def _is_recent(self, claims: Any, limit: float) -> bool:
        return claims.auth_time is not None and self._clock() - claims.auth_time <= limit

    def _listen(self) -> None:
        with self._lock:
            if self._listening_in != os.getpid():
                self._listening_in = os.getpid()
                self._tokens.listen()

    # ---- the answers

    def _refuse(self, reason: str, sid: str | None, answer: Answer) -> NoReturn:
        self._tell(Event("tokens.refused", sid, detail=reason, at=self._clock()))
        raise Refused(answer.plus(*self._nonce()))

    def _nonce(self) -> tuple[tuple[str, str], ...]:
        return () if self._proofs is None else self._proofs.nonce()

    def _refused(self, error: str, bound: bool) -> Answer:
        return self._refusal(401, {"error": error}, bound, error=error)

    def _refusal(
        self, status: int, content: dict[str, Any], bound: bool = False, **attributes: str
    ) -> Answer:
        """One field: the challenge of the scheme that came, and the other scheme beside it where either would do (RFC 9449
        section 7.2).
        """
        more = "".join(f', {name}="{value}"' for name, value in attributes.items())
        challenge = (self._dpop if bound else self._bearer) + more
        other = f", {self._dpop}" if self._dpop and not bound and status == 401 else ""
        return json_answer(status, content, ("WWW-Authenticate", challenge + other))

    def _too_little(self, needs: Needs, bound: bool) -> Answer:
        scope = " ".join(needs.scopes)
        error = "insufficient_scope"
        return self._refusal(403, {"error": error, "scope": scope}, bound, error=error, scope=scope)

    def _too_long_ago(self, limit: float, bound: bool) -> Answer:
        """RFC 9470: the client should have its user log in again, and not refresh."""
        error, seconds = "insufficient_user_authentication", int(limit)
        return self._refusal(
            401, {"error": error, "max_age": seconds}, bound, error=error, max_age=str(seconds)
        )
