"""The global canaries of the checklist (section 0): armed in every test, and asked at its end.

No unpickling, no marshal, no exec or compile by the library; no secret that was issued in any log line, and nothing that looks
like one in what a server wrote; no exception of the library's own making that is not one of the documented.
"""

import logging
import re
import sys
from pathlib import Path
from types import FrameType, TracebackType

import coatcheck
from coatcheck.core.ids import RandomIds

__all__ = ["CANARIES", "Canaries", "said"]

LIBRARY = str(Path(coatcheck.__file__).parent)
WATCHED = frozenset({"pickle.find_class", "marshal.loads", "exec", "compile"})
MOST = 400
"""Secrets remembered in one test: those that issue a hundred thousand cookies are not about logs."""
SHORTEST = 44
"""Characters of a verifier: nothing shorter can hold one."""
COOKIE = re.compile(r"\.[A-Za-z0-9_-]{76}(?![A-Za-z0-9_-])")
"""The half of a cookie that is secret: verifier and signature."""
TOKEN = re.compile(r"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{20,}")
"""A signed token."""
ENDS = re.compile(
    r'^ *File "(?P<file>[^"]+)", line (?P<line>\d+), in .*\n(?: {4,}.*\n)*(?P<error>\w[\w.]*)(?::|$)',
    re.MULTILINE,
)
"""The end of a traceback: where it was raised, and what."""


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

    def watch(self, verifier: str) -> None:
        """This is a secret from here on."""
        if len(self.secrets) < MOST:
            self.secrets[verifier] = None

    def issued(self, cookie_value: str) -> None:
        """The server gave this out: from here on it may not turn up anywhere else. The locator is public, the rest is not."""
        verifier = cookie_value[-76:-32]
        if verifier:
            self.watch(verifier)

    def found_in(self, text: str) -> list[str]:
        """The secrets that this text holds."""
        return [secret for secret in self.secrets if secret in text] if len(text) >= SHORTEST else []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep every line of every logger, tracebacks included, and look at what was raised."""
        self.lines.append(self.format(record))
        if record.exc_info and isinstance(error := record.exc_info[1], Exception) and _is_unheard_of(error):
            self.unhandled.append(error)

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
        wrong += [f"a token in the log: {line[:80]}…" for line in self.lines if TOKEN.search(line)]
        return wrong


def said(output: str) -> list[str]:
    """What is wrong with what a server wrote, in words: a cookie, a token, or an exception of the library's own making."""
    wrong = [
        f"a secret: {found[0][:8]}…" for pattern in (COOKIE, TOKEN) for found in pattern.finditer(output)
    ]
    for end in ENDS.finditer(output):
        if end["file"].startswith(LIBRARY) and not _is_documented(end["error"].rpartition(".")[2]):
            wrong.append(f"{end['error']} raised in {end['file']}:{end['line']}")
    return wrong


def _is_unheard_of(error: Exception) -> bool:
    """Whether the library raised this itself, and documents no such exception."""
    if isinstance(error, OSError):  # ASGI's word for a client that has gone
        return False
    return _raised_in(error.__traceback__).startswith(LIBRARY) and not _is_documented(type(error).__name__)


def _raised_in(trace: TracebackType | None) -> str:
    name = ""
    while trace is not None:
        name, trace = trace.tb_frame.f_code.co_filename, trace.tb_next
    return name


def _is_documented(name: str) -> bool:
    return name in coatcheck.errors.__all__


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
_verifier = RandomIds.verifier


def _watched(self: RandomIds) -> str:
    verifier = _verifier(self)
    CANARIES.watch(verifier)
    return verifier


RandomIds.verifier = _watched  # type: ignore[method-assign]  # every id that is issued in this process is one to look for


def _audit(event: str, args: object) -> None:
    if event in WATCHED and CANARIES.armed:
        CANARIES.hear(event, sys._getframe(1))


sys.addaudithook(_audit)  # for good: Python has no way to take one out again, so it looks at `armed` first
