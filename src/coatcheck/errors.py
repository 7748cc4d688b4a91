"""Every exception coatcheck raises, drawn as a tree.

SessionError
├── ConfigurationError (also ValueError)   a setting is wrong; raised at start-up, names the setting and the fix
│   └── WeakSecret                         the signing secret is missing, guessable or not a secret at all
├── UsageError (also RuntimeError)         the session was used in a way that cannot work
│   ├── OutsideRequest                     there is no session here
│   ├── TooLate                            the response's headers have left; this change could not reach the browser
│   └── WrongFace                          a sync face was given an awaiting client, or the reverse
├── BadSignature                           a value that none of our keys signed; a request that brings one has no cookie
├── InvalidToken                           a token that is not accepted; `reason` says why, for the log (HTTP 401)
├── UnstorableValue (also TypeError)       a value that would not come back equal and of the same type
├── SchemaMismatch (also ValueError)        stored data that does not fit the configured schema
├── SessionTooLarge (also ValueError)      more data than the configured limit
├── CookieTooLarge (also ValueError)       a Set-Cookie that browsers would drop
├── SessionConflict                        on_conflict="raise": another request changed the same key
├── SessionGone                            reload() or save() of a session that has ended meanwhile
├── PasswordTooLong (also ValueError)      longer than what may be hashed (HTTP 400)
├── Throttled                              too many attempts or requests; `retry_after` says when to come back (HTTP 429)
├── LoginRefused                           an explicit save() of a login that may not be: revoked meanwhile, or over the limit
└── StoreError                             the store answered with an error
    ├── CorruptRecord                      what the store holds is not a record of ours
    └── StoreUnavailable                   the store could not be reached (HTTP 503)
        ├── ReplyLost                      the command was sent; whether it was carried out is not known
        └── Uncertain                      a write may or may not have happened, and cannot be told apart any more

"Not found" is never an exception: a store answers None, a request gets an empty session.
"""

from math import ceil

__all__ = [
    "BadSignature",
    "ConfigurationError",
    "CookieTooLarge",
    "CorruptRecord",
    "InvalidToken",
    "LoginRefused",
    "OutsideRequest",
    "PasswordTooLong",
    "ReplyLost",
    "SchemaMismatch",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionTooLarge",
    "StoreError",
    "StoreUnavailable",
    "Throttled",
    "TooLate",
    "Uncertain",
    "UnstorableValue",
    "UsageError",
    "WeakSecret",
    "WrongFace",
]


class SessionError(Exception):
    """The root: `except SessionError` catches everything coatcheck raises."""


class ConfigurationError(SessionError, ValueError):
    """A setting is wrong. The message names the setting and the fix."""


class WeakSecret(ConfigurationError):
    """The secret is missing, guessable or not a secret. The message never repeats it."""


class UsageError(SessionError, RuntimeError):
    """The session was used in a way that cannot work."""


class OutsideRequest(UsageError):
    """There is no session here: the middleware is not installed, or no request is being handled."""


class TooLate(UsageError):
    """The response's headers have left (or the response has ended): this could not be announced to the browser any more."""


class WrongFace(UsageError, ConfigurationError):
    """A sync face was given an awaiting client, or an async face a blocking one. Raised when the face is built."""


class BadSignature(SessionError):
    """A value that none of our keys signed. The message never repeats it."""

    def __init__(self) -> None:
        super().__init__("the signature is not one of ours")


class InvalidToken(SessionError):
    """A token that is not accepted. Whoever sent it is told that and no more (checklist 160); nothing of it is repeated here."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the token is not accepted: {reason}")
        self.reason = reason
        """A word or two, for logs and metrics: malformed, too_large, algorithm, unknown_key, signature, expired…"""


class UnstorableValue(SessionError, TypeError):
    """A value that would not come back equal and of the same type. The message holds the path of keys to it."""


class SchemaMismatch(SessionError, ValueError):
    """What is stored does not fit the configured schema: give new fields defaults, or clear the session."""


class SessionTooLarge(SessionError, ValueError):
    """The session's data is larger than the configured limit; what was stored before is kept."""


class CookieTooLarge(SessionError, ValueError):
    """A Set-Cookie that browsers would drop silently (RFC 6265bis section 5.6: 4096 octets of name and value)."""


class SessionConflict(SessionError):
    """Another request changed the same key first, and on_conflict="raise" was asked for.

    `keys` are the keys in conflict, as dotted paths. A web framework answers 409.
    """

    def __init__(self, keys: tuple[str, ...]) -> None:
        super().__init__(f"changed by another request meanwhile: {', '.join(keys)}; load the page again")
        self.keys = keys


class SessionGone(SessionError):
    """The session ended, or passed to another login, while this request was at work."""


class LoginRefused(SessionError):
    """A login that may not be: the user's sessions were ended after this request began, or the limit of sessions is reached.

    `reason` is "limit" where the user has as many sessions as may be, and at_limit="deny": let them choose one to end, and log in
    again. "" otherwise.
    """

    def __init__(self, message: str = "", reason: str = "") -> None:
        super().__init__(message)
        self.reason = reason


class PasswordTooLong(SessionError, ValueError):
    """A password longer than what may be hashed: hashing it would cost the server, and tell nobody anything (checklist 197)."""

    def __init__(self) -> None:
        super().__init__("the password is too long")


class Throttled(SessionError):
    """Too many attempts or requests. A web framework answers 429 with `Retry-After` (RFC 6585 section 4).

    The message, like the answer, is the same for every account, whether it exists or not (checklist 195).
    """

    def __init__(self, retry_after: float) -> None:
        self.retry_after = max(1, ceil(retry_after))
        """Whole seconds until it makes sense to come back, at least 1."""
        super().__init__(f"too many attempts; try again in {self.retry_after} s")


class StoreError(SessionError):
    """The store answered with an error; `__cause__` is the driver's own."""


class CorruptRecord(StoreError):
    """What the store holds under this key is not a record of ours."""


class StoreUnavailable(StoreError):
    """The store could not be reached. A web framework answers 503: never an anonymous page."""


class ReplyLost(StoreUnavailable):
    """The command was sent and no answer came: whether it was carried out is not known."""


class Uncertain(StoreUnavailable):
    """A write may or may not have happened and can no longer be told apart; it is never applied a second time."""
