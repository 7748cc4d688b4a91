"""Check a password at the same cost whoever it is for: known, unknown, disabled, or without a password (checklist 195, 197)."""

from collections.abc import Callable
from secrets import token_urlsafe
from typing import Any

from coatcheck.errors import ConfigurationError, PasswordTooLong

__all__ = ["PasswordCheck"]


class PasswordCheck:
    """Runs the application's hasher exactly once in every check.

    hash      makes a stored hash of a password: `PasswordHasher().hash`. Called once here, for the hash that stands in where an
              account has none; so with the parameters that real ones have
    verify    tells of a stored hash and a password, in this order, whether they match, by a bool or one of `wrong`
    wrong     exceptions of `verify` that mean "no": `argon2.exceptions.VerificationError`. Any other goes on
    longest   octets that are hashed at most; more is `PasswordTooLong` (HTTP 400), at once

    Hashes that were made with other parameters take another time: let `verify` be followed by a new hash at the next login
    (`check_needs_rehash`). Raises ConfigurationError for what is no hasher.
    """

    def __init__(
        self,
        hash: Callable[[str], Any],
        verify: Callable[[Any, str], Any],
        *,
        wrong: tuple[type[Exception], ...] | type[Exception] = (),
        longest: int = 1024,
    ) -> None:
        functions: tuple[object, object] = (hash, verify)
        if not all(map(callable, functions)):
            raise ConfigurationError(
                "PasswordCheck(hash, verify): give two functions, such as those of argon2-cffi"
            )
        if type(longest) is not int or longest < 64:
            raise ConfigurationError(
                f"longest={longest!r}: give 64 octets or more (NIST SP 800-63B-4 section 3.1.1.2)"
            )
        self._verify, self._wrong, self._longest = verify, wrong, longest
        self._nobodys = hash(token_urlsafe(32))

    def __repr__(self) -> str:
        return f"<PasswordCheck, at most {self._longest} octets>"

    def __call__(self, stored: Any, password: str) -> bool:
        """Whether the password is right. `stored` is the account's hash, or None where there is none: then it never is, and it
        takes as long.

        Ask before you look whether the account is disabled, or locked. Raises PasswordTooLong.
        """
        if len(password) > self._longest or len(password.encode("utf-8", "replace")) > self._longest:
            raise PasswordTooLong
        try:
            matches = bool(self._verify(stored or self._nobodys, password))
        except self._wrong:
            return False
        return matches and bool(stored)
