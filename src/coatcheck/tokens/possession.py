"""What is done with a proof of possession, beside judging it (`dpop.py`): the token it goes with, and that it is used once."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple

from coatcheck.core.ports import Store
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, InvalidToken
from coatcheck.tokens.access import AccessClaims, TokenVerifier
from coatcheck.tokens.dpop import DPoP, MemoryReplays, Proof, Replays, StoreReplays

__all__ = ["BoundTokenVerifier", "Possession", "Request"]

if TYPE_CHECKING:
    from typing_extensions import TypeVar

    C = TypeVar("C", bound=AccessClaims, default=AccessClaims)
else:
    from typing import TypeVar

    C = TypeVar("C", bound=AccessClaims)


class Request(NamedTuple):
    """What a proof is about."""

    proofs: Sequence[str]
    """The values of the request's DPoP fields: one, or it is refused."""
    method: str
    url: str
    """As its client sees it."""


class Possession:
    """The rules of one application, with what was used already."""

    def __init__(self, dpop: DPoP, store: Store | None) -> None:
        given: object = dpop
        if not isinstance(given, DPoP):
            raise ConfigurationError(f"dpop={dpop!r}: give coatcheck.tokens.DPoP(…)")
        self.dpop = dpop
        self._replays = _replays(dpop, store)

    async def key(self, request: Request) -> str:
        """The key that a client without a token has: its thumbprint. Raises InvalidToken."""
        proof = self.dpop.check(request.proofs, method=request.method, url=request.url)
        await self._use(proof)
        return proof.jkt

    async def claims(self, verifier: TokenVerifier[C], token: str, request: Request) -> C:
        """The claims of a token, if its client has the key it is bound to. Raises InvalidToken."""
        proof = self.dpop.check(
            request.proofs, method=request.method, url=request.url, access_token=str(token)
        )
        claims = verifier.verify_bound(token, proof.jkt)
        await self._use(proof)  # last: nobody without a good token has anything remembered
        return claims

    async def _use(self, proof: Proof) -> None:
        if not await self._replays.first(proof.use, now=self.dpop.now(), until=proof.until):
            raise InvalidToken("dpop_replayed")


def _replays(dpop: DPoP, store: Store | None) -> Replays:
    if not isinstance(dpop.replays, str):
        return dpop.replays
    if dpop.replays == "memory":
        return MemoryReplays()
    if store is None:
        raise ConfigurationError(
            "replays='store': there is no store here; give replays='memory' for one process, or an object of yours"
        )
    return StoreReplays(store)


class BoundTokenVerifier(Generic[C]):
    """A `TokenVerifier` for tokens that are bound to their client's key, for a service that has only the public keys.

    claims = BoundTokenVerifier(verifier, DPoP(replays="memory")).verify(token, proofs, method="GET", url=url)

    An own object for `replays` may not wait here. Raises ConfigurationError.
    """

    def __init__(self, verifier: TokenVerifier[C], dpop: DPoP) -> None:
        self.verifier, self.dpop = verifier, dpop
        self._possession = Possession(dpop, None)

    def authenticate_bound(self, token: str, proofs: Sequence[str], *, method: str, url: str) -> C:
        """`verify`, by the name that it has in Tokens."""
        return self.verify(token, proofs, method=method, url=url)

    def verify(self, token: str, proofs: Sequence[str], *, method: str, url: str) -> C:
        """The claims of a token whose client has the key. Raises InvalidToken; its `reason` is "use_dpop_nonce" where the client
        is to come again with `dpop.nonce()`.
        """
        request: Any = Request(proofs, method, url)
        return run_now(self._possession.claims(self.verifier, token, request))
