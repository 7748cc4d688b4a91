"""The global canaries of the checklist (section 0): armed in every test of this room, and asked at its end.

No unpickling, no marshal, no exec or compile by the library; no secret that a test issued in any log line; no exception that a
test did not announce.
"""

import logging
import sys
from pathlib import Path
from types import FrameType

import coatcheck

__all__ = ["CANARIES", "Canaries"]

LIBRARY = str(Path(coatcheck.__file__).parent)
WATCHED = frozenset({"pickle.find_class", "marshal.loads", "exec", "compile"})
MOST = 400
"""Secrets remembered in one test: those that issue a hundred thousand cookies are not about logs."""
SHORTEST = 44
"""Characters of a verifier: nothing shorter can hold one."""


class Canaries(logging.Handler):
    """What one test must not have done."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.setFormatter(logging.Formatter("%(levelname)s %(name)s %(message)s"))
        self.armed = False
        self.reset()

    def reset(self) -> None:
        """Forget the test before."""
        self.secrets: dict[str, None] = {}
        self.lines: list[str] = []
        self.unsafe: list[str] = []
        self.unhandled: list[BaseException] = []
        self.leaks: list[str] = []

    # ---- what tests and the rig tell

    def issued(self, cookie_value: str) -> None:
        """The server gave this out: from here on it may not turn up anywhere else. The locator is public, the rest is not."""
        verifier = cookie_value[-76:-32]
        if len(self.secrets) < MOST and verifier:
            self.secrets[verifier] = None

    def found_in(self, text: str) -> list[str]:
        """The secrets that this text holds."""
        return [secret for secret in self.secrets if secret in text] if len(text) >= SHORTEST else []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep every line of every logger, tracebacks included."""
        self.lines.append(self.format(record))

    @property
    def log(self) -> str:
        """Everything that was logged."""
        return "\n".join(self.lines)

    def hear(self, event: str, frame: FrameType) -> None:
        """An audit event: refuse it if the library is behind it."""
        who = _library_frame(frame, deep=event not in ("exec", "compile"))
        if who is not None:
            self.unsafe.append(f"{event} in {who}")
            raise RuntimeError(f"{event} in {who}")

    def verdict(self) -> list[str]:
        """What is wrong, in words; empty if nothing is."""
        wrong = [f"unsafe: {what}" for what in self.unsafe]
        wrong += [f"unhandled: {error!r}" for error in self.unhandled]
        wrong += [f"secret outside Set-Cookie: {where}" for where in self.leaks]
        wrong += [f"secret in the log: {secret[:6]}…" for secret in self.found_in(self.log)]
        return wrong


def _library_frame(frame: FrameType | None, *, deep: bool) -> str | None:
    """The function of the library that caused this; None if it was an import, or somebody else.

    `exec` and `compile` count where the library calls them itself: dataclasses do so too, when they are imported.
    """
    while frame is not None:
        name = frame.f_code.co_filename
        if name.startswith("<frozen importlib"):
            return None
        if name.startswith(LIBRARY):
            return f"{name}:{frame.f_lineno}"
        if not deep:
            return None
        frame = frame.f_back
    return None


CANARIES = Canaries()


def _audit(event: str, args: object) -> None:
    if event in WATCHED and CANARIES.armed:
        CANARIES.hear(event, sys._getframe(1))


sys.addaudithook(_audit)  # for good: Python has no way to take one out again, so it looks at `armed` first
