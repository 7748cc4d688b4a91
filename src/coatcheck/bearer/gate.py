"""Who may pass with an access token: the rules of RFC 6750, once for every framework.

A token comes in the one `Authorization` header (never in a URL or a form: checklist 162), or in the cookie of `TokenCookies`,
which counts only for a request of our own pages. Whatever is wrong with a token, the answer is the same, and the reason is in
the log (checklist 160). Whoever brings none is told that one is needed, and not that theirs was bad (RFC 6750 section 3.1).
"""

import os
import re
import threading
from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Generic, NoReturn

from coatcheck.bearer.cookies import TokenCookies
from coatcheck.bearer.http import UNAVAILABLE, Answer, Asked, Refused, answered, fitting, json_answer
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

_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9\-._~+/]+=*)")
"""RFC 6750 section 2.1, RFC 9110 section 11.1."""
_SCOPE: Final = re.compile(r"[!#-\[\]-~]+")
_QUOTABLE: Final = re.compile(r"[ !#-\[\]-~]+")


def _is_bearer(field: str) -> bool:
    """Whether this means to be a bearer token, however badly; another scheme is somebody else's business."""
    return field.strip()[:6].lower() == "bearer"


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

    tokens   `Tokens` or `AsyncTokens`; or a `TokenVerifier`, which has only the keys and knows of no revocation
    cookies  the cookies that a browser may bring its token in; None: the header alone
    realm    what the challenge calls this part of the site
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
        self._check, self._clock = getattr(tokens, "authenticate", tokens.verify), verifier.clock
        sessions = getattr(tokens, "sessions", None)
        self._tell: Listener = events.log if sessions is None else sessions.flows.options.tell
        realm = verifier.audience if realm is None else realm
        if not isinstance(realm, str) or not _QUOTABLE.fullmatch(realm):
            raise ConfigurationError(f"realm={realm!r}: give printable ASCII without quotes and backslashes")
        self._challenge = f'Bearer realm="{realm}"'
        self._nobody = self._refusal(401, {"error": "invalid_token"})
        self._invalid = self._refusal(401, {"error": "invalid_token"}, error="invalid_token")
        self._foreign = json_answer(403, {"error": "cross_site_request"})

    async def admit(self, asked: Asked, needs: Needs) -> C:
        """The claims of whoever asks. Raises Refused if they may not pass."""
        claims = await self.known(asked)
        if claims is None:
            raise Refused(self._nobody)
        missing = [scope for scope in needs.scopes if scope not in claims.scopes]
        if missing:
            self._refuse("scope", claims.sid, self._too_little(needs))
        if needs.recent is not None and not self._is_recent(claims, needs.recent):
            self._refuse("auth_time", claims.sid, self._too_long_ago(needs.recent))
        return claims

    async def known(self, asked: Asked) -> C | None:
        """The claims of a token that came; None if none did. Raises Refused for one that is not good."""
        token = self._token(asked)
        if token is None:
            return None
        if self._listens:
            self._listen()
        try:
            claims: C = await answered(self._check(token))
            return claims
        except InvalidToken as error:
            self._refuse(error.reason, None, self._invalid)
        except StoreUnavailable as error:
            self._tell(Event("store.down", detail=str(error), at=self._clock()))
            raise Refused(UNAVAILABLE) from error

    def _token(self, asked: Asked) -> str | None:
        fields = asked.all("authorization")
        if len(fields) > 1:
            self._refuse("two_headers", None, self._invalid)
        if fields and _is_bearer(fields[0]):
            found = _BEARER.fullmatch(fields[0])
            if found is None:
                self._refuse("malformed", None, self._invalid)
            return found[1]
        return self._from_cookie(asked)

    def _from_cookie(self, asked: Asked) -> str | None:
        token = None if self.cookies is None else self.cookies.access_of(asked)
        if token is not None and self.cookies is not None and not self.cookies.allow(asked):
            self._refuse("cross_site", None, self._foreign)
        return token

    def came_in_cookie(self, asked: Asked) -> bool:
        """Whether the answer depends on a cookie, and so on whose browser asked: no shared cache may keep it (checklist 88)."""
        return self.cookies is not None and not any(map(_is_bearer, asked.all("authorization")))

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
        raise Refused(answer)

    def _refusal(self, status: int, content: dict[str, Any], **attributes: str) -> Answer:
        more = "".join(f', {name}="{value}"' for name, value in attributes.items())
        return json_answer(status, content, ("WWW-Authenticate", self._challenge + more))

    def _too_little(self, needs: Needs) -> Answer:
        scope = " ".join(needs.scopes)
        error = "insufficient_scope"
        return self._refusal(403, {"error": error, "scope": scope}, error=error, scope=scope)

    def _too_long_ago(self, limit: float) -> Answer:
        """RFC 9470: the client should have its user log in again, and not refresh."""
        error, seconds = "insufficient_user_authentication", int(limit)
        return self._refusal(401, {"error": error, "max_age": seconds}, error=error, max_age=str(seconds))
