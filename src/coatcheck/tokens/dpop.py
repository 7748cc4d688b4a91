"""Proof of possession (DPoP, RFC 9449): whoever stole a token cannot use it without the key it is bound to.

    dpop = DPoP(secret=os.environ["SESSION_SECRET"])
    tokens = AsyncTokens(sessions, keys=…, issuer=…, audience=…, dpop=dpop)
    claims = await tokens.authenticate_bound(token, proofs, method="GET", url="https://api.example/orders")

Every request brings a proof: a small JWT about its method and URL, signed by the client's own key. Here is what a proof must be
(section 4.3, checklist 181). Nothing of the header is trusted that is not checked: the key in it proves only itself.
"""

import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import Annotated, Any, Final, NamedTuple, Protocol
from urllib.parse import urlsplit

import msgspec

from coatcheck.commands import Commands
from coatcheck.core.ids import RandomIds
from coatcheck.core.policy import duration
from coatcheck.core.ports import SAVED, Store
from coatcheck.core.record import Record
from coatcheck.core.signing import Secret, key_rings
from coatcheck.errors import BadSignature, ConfigurationError, InvalidToken
from coatcheck.tokens import base64url
from coatcheck.tokens.algorithms import primitive
from coatcheck.tokens.jwk import material, public_members, thumbprint
from coatcheck.tokens.jws import REFUSED, taken_apart
from coatcheck.tokens.strict_json import strict_object

__all__ = ["ALGORITHMS", "DPoP", "MemoryReplays", "Proof", "Replays", "StoreReplays"]

TYPE: Final = "dpop+jwt"
ALGORITHMS: Final = ("ES256", "ES384", "Ed25519", "EdDSA", "RS256", "PS256")
"""What a proof may be signed with: key pairs only. For `dpop_signing_alg_values_supported` (RFC 9449 section 5.1)."""
MAX_LENGTH: Final = 4096
_PUBLIC: Final = {"EC": ("crv", "x", "y"), "OKP": ("crv", "x"), "RSA": ("n", "e")}
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"})
_UNRESERVED: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=2048)]


class _Claims(msgspec.Struct, frozen=True):
    """What a proof says. Everything else in it is no concern of ours."""

    jti: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    htm: _Text
    htu: _Text
    iat: Annotated[int, msgspec.Meta(ge=0, le=253_402_300_799)] | Annotated[float, msgspec.Meta(ge=0)]
    ath: str | None = None
    nonce: str | None = None


class Proof(NamedTuple):
    """A proof that holds, but for having been used before."""

    jkt: str
    """The thumbprint of its key (RFC 7638): what tokens are bound to."""
    use: str
    """Its name among those that were used: of the key and its `jti`, hashed."""
    until: float
    """Seconds since the epoch after which it is too old anyway."""


class Replays(Protocol):
    """Which proofs were used already."""

    async def first(self, use: str, *, now: float, until: float) -> bool:
        """Whether nobody has used this before. It is remembered until then (seconds since the epoch)."""
        ...


class MemoryReplays:
    """In the memory of this process: for an application of one process. `limit` is how many proofs are remembered at once.

    At the limit further proofs are refused, rather than forgotten ones let in again: a proof is kept for a minute or two, so
    100,000 of them are more than one process can check. About 150 octets each.
    """

    def __init__(self, limit: int = 100_000) -> None:
        self._limit = limit
        self._until: dict[str, float] = {}  # in the order of their use
        self._lock = threading.Lock()

    async def first(self, use: str, *, now: float, until: float) -> bool:
        """Whether nobody has used this before."""
        with self._lock:
            self._forget(now)
            if len(self._until) >= self._limit:
                raise InvalidToken("dpop_busy")
            if use in self._until:
                return False
            self._until[use] = until
            return True

    def _forget(self, now: float) -> None:
        while self._until:
            oldest = next(iter(self._until))
            if self._until[oldest] > now:
                return
            del self._until[oldest]

    def __len__(self) -> int:
        return len(self._until)


class StoreReplays:
    """In the store of the sessions, for an application of several processes: one small record a proof, which counts among the
    store's sessions until it is gone, a minute or two later.
    """

    def __init__(self, store: Store) -> None:
        self._commands, self._ids = Commands(store), RandomIds()

    async def first(self, use: str, *, now: float, until: float) -> bool:
        """Whether nobody has used this before. Raises StoreError."""
        version = self._ids.version()
        record = Record(f"dpop-{use}", (version,), b"", b"{}", now, now, until, until)
        return await self._commands.insert(record, None, now) is SAVED


class DPoP:
    """The rules for proofs of one application.

    secret    one or several secrets of the application, or where they are read from: with one, clients must put a nonce of ours
              into their proofs (section 8), so that none can be made ahead. Without, they need not
    window    for how long a proof is good, in seconds; at most five minutes
    leeway    how far a client's clock may be ahead
    replays   which proofs were used already: "store", where it is the sessions' store that is asked, once a request; "memory" for
              an application of one process; or an object with the method of `Replays`
    clock     tells seconds since the epoch

    Raises ConfigurationError.
    """

    def __init__(
        self,
        *,
        secret: Secret | None = None,
        window: str | float | timedelta = 60,
        leeway: str | float | timedelta = 5,
        replays: str | Replays = "store",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.window, self.leeway = duration(window, setting="window"), duration(leeway, setting="leeway")
        if self.window > 300 or self.leeway > 60:
            raise ConfigurationError(
                f"window={window!r}, leeway={leeway!r}: at most five minutes, and one minute"
            )
        if isinstance(replays, str) and replays not in ("store", "memory"):
            raise ConfigurationError(f"replays={replays!r}: give 'store', 'memory', or an object of yours")
        self.replays = replays
        self._clock = clock
        self._nonces = None if secret is None else key_rings(secret)("dpop nonce")

    algorithms: Final = ALGORITHMS
    """What a proof may be signed with."""

    def now(self) -> float:
        """Seconds since the epoch, by this clock."""
        return self._clock()

    @property
    def wants_nonces(self) -> bool:
        """Whether a proof must have a nonce."""
        return self._nonces is not None

    def nonce(self) -> str | None:
        """What to send as `DPoP-Nonce`, on every response to a request with a proof; None: nothing.

        The same for everybody, a new one every `window`, and good for as long after the next has come. Nothing is kept, so any
        process knows it, and no client's can be mixed up with another's (checklist 184).
        """
        now = self._clock()
        return None if self._nonces is None else self._nonces.at(now).sign(self._bucket(now))

    def _bucket(self, now: float, before: int = 0) -> str:
        return str(int(now // self.window) - before)

    def check(
        self, proofs: Sequence[str], *, method: str, url: str, access_token: str | None = None
    ) -> Proof:
        """What the proof of a request proves: all but that it was not used before.

        `proofs` are the values of the request's DPoP fields, `url` is the request's as its client sees it: behind a proxy, the
        public one. `access_token` is the one it came with; None where there is none yet, at the token endpoint.

        Raises InvalidToken: its `reason` is "use_dpop_nonce" where the client is to come again with `nonce()`.
        """
        if len(proofs) != 1:
            raise InvalidToken("dpop")
        key, claims = _opened(proofs[0])
        now = self._clock()
        if claims.htm != method or _normal(claims.htu) != _normal(url):
            raise InvalidToken("dpop")
        if not -self.window < claims.iat - now <= self.leeway:
            raise InvalidToken("dpop")
        if access_token is not None and not _is_of(claims.ath, access_token):
            raise InvalidToken("dpop")
        self._check_nonce(claims.nonce, now)
        use = base64url.encode(sha256(f"{key} {claims.jti}".encode("utf-8", "surrogatepass")).digest())
        return Proof(key, use, claims.iat + self.window + self.leeway)

    def _check_nonce(self, nonce: str | None, now: float) -> None:
        if self._nonces is None:
            return
        ring = self._nonces.at(now)
        for before in (0, 1):
            try:
                ring.verify(self._bucket(now, before), nonce or "")
            except BadSignature:
                continue
            return
        raise InvalidToken("use_dpop_nonce")


def _opened(proof: object) -> tuple[str, _Claims]:
    """The thumbprint of a proof's key, and what it says. Raises InvalidToken."""
    head, body, mac = taken_apart(proof, MAX_LENGTH)
    try:
        header = strict_object(base64url.decode(head))
        payload, signature = base64url.decode(body), base64url.decode(mac)
    except ValueError:
        raise InvalidToken("dpop") from None
    typ = header.get("typ")
    if type(typ) is not str or typ.lower().removeprefix("application/") != TYPE:
        raise InvalidToken("dpop")
    if any(name in header for name in REFUSED):
        raise InvalidToken("dpop")
    jwk, alg = header.get("jwk"), header.get("alg")
    if type(alg) is not str or alg not in ALGORITHMS or not isinstance(jwk, dict):
        raise InvalidToken("dpop")
    try:
        key = _public(jwk)
        if not primitive(alg, key).verify(f"{head}.{body}".encode("ascii"), signature):
            raise InvalidToken("dpop")
        claims = msgspec.convert(strict_object(payload), _Claims)
    except (ValueError, msgspec.ValidationError, RecursionError):  # ConfigurationError is a ValueError
        raise InvalidToken("dpop") from None
    return thumbprint(public_members(key)), claims


def _public(jwk: dict[str, Any]) -> Any:
    """The key in a proof's header. Raises ConfigurationError for one that is private, or weak."""
    kind = jwk.get("kty")
    members = _PUBLIC.get(kind) if isinstance(kind, str) else None
    if members is None or _PRIVATE & jwk.keys():
        raise ConfigurationError("this is no public key")
    return material({"kty": kind, **{name: jwk.get(name) for name in members}})


def _is_of(ath: str | None, access_token: str) -> bool:
    """Whether a proof was made for this very access token (section 4.2)."""
    wanted = base64url.encode(sha256(access_token.encode("utf-8", "surrogatepass")).digest())
    return ath is not None and compare_digest(ath.encode("utf-8", "surrogatepass"), wanted.encode("ascii"))


def _normal(url: str) -> str:
    """A URL without query and fragment, spelled in one way (RFC 3986 sections 6.2.2 and 6.2.3). Raises InvalidToken."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise InvalidToken("dpop") from None
    scheme, host = parts.scheme.lower(), (parts.hostname or "").lower()
    if scheme not in ("https", "http") or not host or parts.username is not None or not url.isascii():
        raise InvalidToken("dpop")
    if port in (None, {"https": 443, "http": 80}[scheme]):
        return f"{scheme}://{host}{_path(parts.path)}"
    return f"{scheme}://{host}:{port}{_path(parts.path)}"


def _path(path: str) -> str:
    """A path with capitals in its escapes, and none that is not needed."""
    first, *rest = (path or "/").split("%")
    return first + "".join(_escape(piece) for piece in rest)


def _escape(piece: str) -> str:
    try:
        octet = bytes.fromhex(piece[:2])[0]
    except (ValueError, IndexError):
        raise InvalidToken("dpop") from None
    return (chr(octet) if octet in _UNRESERVED else f"%{octet:02X}") + piece[2:]
