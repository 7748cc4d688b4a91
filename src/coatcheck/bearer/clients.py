"""Which client asks, and how it proves it (RFC 6749 sections 2.3 and 3.2.1).

A public client, an application in a browser or on a phone, can keep no secret and says its `client_id`. A confidential one
brings a secret, in HTTP Basic or in the form, and the application's own `client_auth` says whether it is right.
"""

import binascii
from base64 import b64decode
from collections.abc import Awaitable, Callable, Collection
from typing import Any, Final, NamedTuple
from urllib.parse import unquote_plus

from coatcheck.bearer import forms
from coatcheck.bearer.forms import Form
from coatcheck.bearer.http import Asked, Refused, answered
from coatcheck.errors import ConfigurationError

__all__ = ["Attempt", "Client", "ClientAuth", "Clients"]

ClientAuth = Callable[[str, str], bool | Awaitable[bool]]
_BASIC: Final = "basic "


class Client(NamedTuple):
    """Who asks."""

    id: str
    confidential: bool
    """It proved with a secret who it is."""


class Attempt(NamedTuple):
    """What a rate limit may go by, before anything is looked up. Nothing in it is proven."""

    endpoint: str
    """"token", "revoke" or "introspect"."""
    client_id: str | None
    peer: str
    """The address at the other end of the connection: of a proxy, if there is one."""
    forwarded_for: str
    """What the X-Forwarded-For header says: to be believed only if that proxy is yours."""
    address: str = ""
    """The client's, as far as those say who are believed: the proxies in `proxy=`."""


class Clients:
    """The clients of one application.

    public  client ids that need no secret
    auth    `client_auth(client_id, secret)`: whether that is the client's secret. Compare with `hmac.compare_digest`
    """

    def __init__(self, public: Collection[str], auth: ClientAuth | None) -> None:
        given: Any = public
        if isinstance(given, str) or not all(isinstance(name, str) and name for name in given):
            raise ConfigurationError(f"public_clients={public!r}: give a list of client ids, such as ['web']")
        if auth is not None and not callable(auth):
            raise ConfigurationError(f"client_auth={auth!r}: give a function of client id and secret")
        if not given and auth is None:
            raise ConfigurationError(
                "no client could use these endpoints: give public_clients=['web'] or client_auth=…"
            )
        self._public, self._auth = frozenset(public), auth

    @property
    def methods(self) -> list[str]:
        """How clients may authenticate, as RFC 8414 names it."""
        secret = ["client_secret_basic", "client_secret_post"] if self._auth is not None else []
        return (["none"] if self._public else []) + secret

    async def authenticate(self, asked: Asked, form: Form) -> Client:
        """The client that asks. Raises Refused."""
        name, secret = claimed(asked, form)
        if secret is not None:
            if (
                name is not None
                and self._auth is not None
                and await answered(self._auth(name, secret)) is True
            ):
                return Client(name, True)
        elif name in self._public:
            assert name is not None
            return Client(name, False)
        raise _unknown()


def claimed(asked: Asked, form: Form) -> tuple[str | None, str | None]:
    """The client id and the secret that a request brings. Raises Refused for two ways at once, and for what cannot be read."""
    fields = asked.all("authorization")
    name, secret = form.get("client_id"), form.get("client_secret")
    if not fields:
        return name, secret
    if len(fields) > 1 or secret is not None:
        raise forms.refusal(400, "invalid_request")
    basic, secret = _basic(fields[0])
    if name is not None and name != basic:
        raise forms.refusal(400, "invalid_request")
    return basic, secret


def _basic(field: str) -> tuple[str, str]:
    """Both halves are percent-encoded before they are joined (RFC 6749 section 2.3.1)."""
    if field[: len(_BASIC)].lower() != _BASIC:
        raise _unknown()
    try:
        text = b64decode(field[len(_BASIC) :].strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise _unknown() from None
    name, colon, secret = text.partition(":")
    if not colon:
        raise _unknown()
    return unquote_plus(name), unquote_plus(secret)


def _unknown() -> Refused:
    return forms.refusal(401, "invalid_client", ("WWW-Authenticate", 'Basic realm="tokens"'))
