"""The key that a client proves to have when its user logs in (RFC 9449 section 5): what its tokens are to be bound to.

proof = LoginProof(tokens, url="https://id.example/login")

proven = await proof.acheck(request)                # a request of any framework; sync: proof.check(request)
if proven.refusal is not None: ...                  # an answer: its status, headers, body
pair = await tokens.issue(user.id, jkt=proven.jkt)  # None: this client has no key, its tokens are bearer tokens
"""

from collections.abc import Awaitable
from typing import Any, NamedTuple

from coatcheck.bearer import forms
from coatcheck.bearer.http import UNAVAILABLE, Answer, Asked, answered, asked_of, is_awaiting
from coatcheck.bearer.proofs import Proofs, proofs_of
from coatcheck.core.events import Event
from coatcheck.core.stepping import run_now
from coatcheck.errors import ConfigurationError, InvalidToken, StoreUnavailable, WrongFace

__all__ = ["LoginProof", "Proven", "proven_key", "unproven"]


class Proven(NamedTuple):
    """What a login has proved."""

    jkt: str | None = None
    """The thumbprint of the client's key: for `issue(jkt=…)`. None: it came without a proof."""
    refusal: Answer | None = None
    """What to answer instead of logging in: 400 `invalid_dpop_proof` or `use_dpop_nonce`; 503 if the store is away."""
    headers: tuple[tuple[str, str], ...] = ()
    """What a good answer should say besides: the next nonce."""


class LoginProof:
    """The proof in a request that logs a user in.

    tokens    Tokens or AsyncTokens, made with `dpop=`
    url       the login's address, as clients see it
    required  refuse a login without a proof; without it, such a login is not bound to a key

    Raises ConfigurationError.
    """

    def __init__(self, tokens: Any, *, url: str, required: bool = False) -> None:
        proofs = proofs_of(tokens, url, example="https://id.example/login")
        if proofs is None or not hasattr(tokens, "proven_key"):
            raise ConfigurationError(
                "LoginProof is for tokens that can be bound to keys: give Tokens(…, dpop=DPoP(…))"
            )
        self._tokens, self._proofs, self._required = tokens, proofs, required

    def check(self, request: Any) -> Proven:
        """What this request proves. For Tokens. Raises WrongFace for AsyncTokens, UsageError for what is no request."""
        if is_awaiting(self._tokens.proven_key):
            raise WrongFace("AsyncTokens: say `await proof.acheck(request)`")
        return run_now(self._check(asked_of(request)))

    async def acheck(self, request: Any) -> Proven:
        """What this request proves. For AsyncTokens. Raises WrongFace for Tokens, UsageError for what is no request."""
        if not is_awaiting(self._tokens.proven_key):
            raise WrongFace("Tokens in async code would block the event loop: give AsyncTokens")
        return await self._check(asked_of(request))

    async def _check(self, asked: Asked) -> Proven:
        if not self._required and not asked.all("dpop"):
            return Proven()
        nonce = self._proofs.nonce()
        try:
            jkt = await proven_key(self._tokens, self._proofs, asked, "")
        except InvalidToken as error:
            self._tell("tokens.refused", f"login: {error.reason}")
            return Proven(refusal=unproven(error.reason).plus(*nonce), headers=nonce)
        except StoreUnavailable as error:
            self._tell("store.down", str(error))
            return Proven(refusal=UNAVAILABLE)
        return Proven(jkt, headers=nonce)

    def _tell(self, name: Any, detail: str) -> None:
        flows = self._tokens.sessions.flows
        flows.options.tell(Event(name, detail=detail, at=flows.clock.time()))


async def proven_key(tokens: Any, proofs: Proofs, asked: Asked, path: str) -> str:
    """The key that a request without a token proves. Raises InvalidToken, or StoreError."""
    found: str | Awaitable[str] = tokens.proven_key(**proofs.about(asked, path))
    return await answered(found)


def unproven(reason: str) -> Answer:
    """The answer to a proof that does not hold, where tokens are handed out (sections 5 and 8)."""
    return forms.oauth_error(400, "use_dpop_nonce" if reason == "use_dpop_nonce" else "invalid_dpop_proof")
