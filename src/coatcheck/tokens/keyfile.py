"""Keys in a file that is read again while the program runs, so that changing them needs no restart (checklist 20)."""

import logging
from collections.abc import Callable
from math import nan
from pathlib import Path
from typing import Any, Final

from coatcheck.core.signing import REREAD_EVERY
from coatcheck.errors import ConfigurationError
from coatcheck.tokens.keys import KeyRing

__all__ = ["KeyFile"]

_logger: Final = logging.getLogger("coatcheck")


class KeyFile:
    """The keys in a file: `Tokens` and `TokenVerifier` take it in place of a KeyRing.

    path      a file as `KeyRing.from_file` reads it. Replace it by renaming another over it: half of a file is no set
    alg       as there
    on_error  is told why it could not be read again; by default it is logged. The last good keys stay then

    It is looked at every 30 seconds. Raises ConfigurationError if it cannot be read now.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        alg: str | None = None,
        on_error: Callable[[Exception], None] | None = None,
    ) -> None:
        self.path, self._alg, self._on_error = Path(path), alg, on_error or self._log
        self._mark: object = None
        self._looked_at = nan
        self._ring = self._read()

    def at(self, now: float) -> KeyRing:
        """The keys at `now` (seconds since the epoch)."""
        # Written so that NaN, and a clock that was set back, look again. Two threads that both do so do no harm.
        if not self._looked_at <= now < self._looked_at + REREAD_EVERY:
            self._looked_at = now
            self._look()
        return self._ring

    def missed(self, now: float) -> None:
        """A token names a key that is not among them: they are looked at soon enough."""

    def jwks(self, *, now: float | None = None) -> dict[str, Any]:
        """The JWK set to publish, as `KeyRing.jwks`."""
        return (self._ring if now is None else self.at(now)).jwks(now=now)

    def _look(self) -> None:
        try:
            if self._state() != self._mark:
                self._ring = self._read()
        except (OSError, ConfigurationError) as error:
            self._on_error(error)

    def _read(self) -> KeyRing:
        try:
            mark = self._state()
        except OSError as error:
            raise ConfigurationError(f"{self.path}: this file of keys cannot be read ({error})") from error
        ring = KeyRing.from_file(self.path, alg=self._alg)
        self._mark = mark
        return ring

    def _state(self) -> object:
        found = self.path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _log(self, error: Exception) -> None:
        _logger.error("%s: the keys are kept as they were: %s", self.path, error)

    def __repr__(self) -> str:
        return f"<KeyFile {self.path}>"
