"""The application of the security checklist's rig: its routes, written once for sync and async.

A handler is `async def`; what a session answers at once under WSGI and must be awaited under ASGI goes through `settled`.
"""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import scrypt
from hmac import compare_digest
from inspect import isawaitable
from traceback import TracebackException
from typing import Any

from coatcheck import AsyncSession, LoginRefused, SessionError, stepup
from coatcheck.core.session import BaseSession
from coatcheck.throttling import AsyncAttempt, Attempt, LoginThrottle, PasswordCheck, RateLimit

__all__ = ["BIG", "LOOKS", "REPORTS", "VERIFIED", "Answer", "Boom", "Call", "answer"]

Headers = list[tuple[str, str]]
Answer = tuple[int, Headers, str | Iterator[str]]
BIG = "x" * 2_000_000
FRESH = timedelta(minutes=10)
VERIFIED: list[str] = []
"""Whose codes were compared."""
REPORTS: list[str] = []
"""What the error reporter has sent off."""


class Boom(Exception):
    """A bug in the application."""


@dataclass
class Call:
    """One request as a handler sees it."""

    method: str
    path: str
    query: dict[str, str]
    session: Any
    sessions: Any
    time: Any
    gate: Callable[[], Awaitable[None]] | None
    inside: Any = field(default=None, repr=False)
    """The scope or environ, for what else is in it: the headers, so an error report must not print it."""
    body: bytes = field(default=b"", repr=False)

    @property
    def rest(self) -> str:
        """What follows the first part of the path."""
        return self.path.split("/", 2)[2]


async def settled(value: Any) -> Any:
    """The value, awaited if it must be."""
    return await value if isawaitable(value) else value


async def answer(call: Call) -> Answer:
    """Find the handler and run it; `gate=` in the query: load the session, then wait for the test."""
    method = "GET" if call.method == "HEAD" else call.method
    handler = ROUTES.get(f"{method} /{call.path.split('/')[1]}")
    if handler is None:
        return 404, [], "not found"
    if call.gate is not None:
        call.session.get("k")
        await call.gate()
    result = await handler(call)
    status, headers, body = result if isinstance(result, tuple) else (200, [], result)
    return status, headers, "" if call.method == "HEAD" else body


Handler = Callable[[Call], Awaitable[Any]]
ROUTES: dict[str, Handler] = {}


def route(rule: str) -> Callable[[Handler], Handler]:
    def put(handler: Handler) -> Handler:
        ROUTES[rule] = handler
        return handler

    return put


# --------------------------------------------------------------------------------------------------- guessing passwords


class Hasher:
    """A real one, made cheap: scrypt. Counts how often it was run."""

    def __init__(self) -> None:
        self.runs = 0

    def hash(self, password: str) -> bytes:
        self.runs += 1
        return scrypt(password.encode("utf-8", "replace"), salt=b"salt", n=256, r=8, p=1)

    def verify(self, stored: bytes, password: str) -> bool:
        return compare_digest(stored, self.hash(password))


HASHER = Hasher()
RIGHT = "correct horse"
CHECK = PasswordCheck(HASHER.hash, HASHER.verify)
ACCOUNTS: dict[str, tuple[bytes | None, bool]] = {
    "ada": (HASHER.hash(RIGHT), True),
    "eve": (HASHER.hash(RIGHT), True),
    "disabled": (HASHER.hash(RIGHT), False),
    "passkeys-only": (None, True),
}
"""Name -> (hash, whether the account is enabled)."""
THROTTLE = LoginThrottle()
LIMIT = RateLimit("2/minute", name="page")


def _check(attempt: Any, password: str) -> None:
    stored, enabled = ACCOUNTS.get(attempt.account, (None, True))
    attempt.succeeded = CHECK(stored, password) and enabled


@route("POST /signin")
async def sign_in(call: Call) -> Any:
    attempt: AsyncAttempt | Attempt
    entry, password = (
        THROTTLE.attempt(call.session, account=call.query["user"]),
        call.query.get("password", ""),
    )
    if isinstance(call.session, AsyncSession):
        async with entry as attempt:
            _check(attempt, password)
    else:
        with entry as attempt:
            _check(attempt, password)
    if not attempt.succeeded:
        return 401, [("Content-Type", "text/plain")], "wrong name or password"
    call.session.login(attempt.account)
    return f"welcome {attempt.account}"


@route("GET /limited")
async def limited(call: Call) -> str:
    if isinstance(call.session, AsyncSession):
        await LIMIT.acheck(call.session)
    else:
        LIMIT.check(call.session)
    return "limited"


# ------------------------------------------------------------------------------------------------- reading and writing


@route("GET /pub")
async def pub(call: Call) -> str:
    return "public"


@route("GET /read")
async def read(call: Call) -> str:
    return str(call.session.get(call.query.get("k", "k")))


@route("GET /has")
async def has(call: Call) -> str:
    return str("k" in call.session)


@route("POST /set")
async def put(call: Call) -> str:
    call.session[call.query.get("k", "k")] = call.query.get("v", "v")
    return "kept"


@route("GET /slow")
async def slow(call: Call) -> str:
    call.session[call.query.get("k", "slow")] = call.query.get("v", "written")
    return "written"


@route("POST /incr")
async def incr(call: Call) -> str:
    call.session.increment("n")
    return "counted"


@route("POST /big")
async def big(call: Call) -> str:
    call.session["big"] = BIG
    return "kept"


@route("POST /touch")
async def touch(call: Call) -> str:
    call.session.touch()
    return "touched"


@route("POST /own")
async def own(call: Call) -> str:
    call.session["k"] = "v"
    call.session.cookie.max_age = float(call.query["max_age"])
    return "kept"


@route("POST /note")
async def note(call: Call) -> str:
    call.session["note"] = call.query.get("v", "once")
    return "noted"


@route("POST /take")
async def take(call: Call) -> str:
    return str(await settled(call.session.take("note")))


LOOKS: dict[str, Callable[[Any], Any]] = {
    "in": lambda s: "k" in s,
    "not-in": lambda s: "nothing" in s,
    "len": len,
    "iter": lambda s: list(s),
    "reversed-keys": lambda s: list(s.keys()),
    "values": lambda s: list(s.values()),
    "items": lambda s: list(s.items()),
    "get": lambda s: s.get("k"),
    "get-missing": lambda s: s.get("nothing"),
    "getitem": lambda s: s["k"],
    "bool": bool,
    "eq": lambda s: s == {},
    "ne": lambda s: s != {},
    "copy": dict,
    "setitem": lambda s: s.__setitem__("k", 1),
    "setitem-dict": lambda s: s.__setitem__("k", {"a": [1]}),
    "delitem": lambda s: s.__delitem__("k"),
    "pop": lambda s: s.pop("k"),
    "pop-missing": lambda s: s.pop("nothing", None),
    "popitem": lambda s: s.popitem(),
    "setdefault": lambda s: s.setdefault("k", 1),
    "update": lambda s: s.update(k=1),
    "clear": lambda s: s.clear(),
    "increment": lambda s: s.increment("n"),
    "apply": lambda s: s.apply("k", str),
    "flash": lambda s: s.flash("hello"),
    "flashes": lambda s: s.flashes(),
    "handle": lambda s: s.handle,
    "id": lambda s: s.id,
    "is-new": lambda s: s.is_new,
    "modified": lambda s: s.modified,
    "user-id": lambda s: s.user_id,
    "authenticated-at": lambda s: s.authenticated_at,
    "created-at": lambda s: s.created_at,
    "last-seen-at": lambda s: s.last_seen_at,
    "expires-at": lambda s: s.expires_at,
    "cookie-max-age": lambda s: s.cookie.max_age,
    "cookie-expires": lambda s: s.cookie.expires,
    "touch": lambda s: s.touch(),
    "regenerate": lambda s: s.regenerate(),
    "login": lambda s: s.login("ada"),
    "logout": lambda s: s.logout(),
}
"""Every way to look at a session or to change it, as far as it needs no waiting."""


@route("GET /look")
async def look(call: Call) -> str:
    LOOKS[call.rest](call.session)
    return "looked"


# ----------------------------------------------------------------------------------------------------------- who it is


@route("GET /login")
async def login_page(call: Call) -> str:
    return "your name and password, please"


@route("POST /login")
async def login(call: Call) -> str:
    call.session.login(call.query.get("user", "ada"), remember="remember" in call.query)
    return "welcome"


@route("POST /wrong")
async def wrong(call: Call) -> Answer:
    return 401, [], f"wrong password, {call.session.user_id}"


@route("POST /password")
async def password_accepted(call: Call) -> str:
    """The first factor is not a login: it is written down, and nothing more."""
    call.session["pending"] = call.query["user"]
    return "now the code"


@route("POST /mfa")
async def mfa(call: Call) -> Answer:
    if "pending" not in call.session:
        return 401, [], "who are you?"
    call.session.login(call.session.pop("pending"), method="otp")
    return 200, [], "welcome"


@route("POST /begin")
async def begin(call: Call) -> str:
    """The first factor was right, and is not enough."""
    call.session.begin_login(call.query.get("user", "ada"))
    return "now the code"


@route("POST /complete")
async def complete(call: Call) -> Answer:
    """The second factor: the code is "right"."""
    pending = call.session.pending_login
    tried = "untried" in call.query or await settled(call.session.try_factor(limit=5))
    if pending is None or not tried:
        return 401, [], "who are you?"
    VERIFIED.append(pending.user_id)
    if call.query.get("code", "right") != "right":
        return 403, [], "wrong code"
    call.session.complete_login(method="otp")
    if "save" in call.query:
        try:
            await settled(call.session.save())
        except LoginRefused as refused:
            return 409, [], refused.reason
    return 200, [], "welcome"


@route("POST /reauth")
async def reauth(call: Call) -> str:
    call.session.reauthenticate(method=call.query.get("method", "pwd"))
    return "it is you"


@route("GET /amr")
async def amr(call: Call) -> str:
    return " ".join(call.session.amr)


@route("GET /pending")
async def pending(call: Call) -> str:
    return str(call.session.pending_login)


@route("POST /vault")
async def vault(call: Call) -> Answer:
    refused = stepup.by_method("otp", "hwk").refusal(call.session)
    return (200, [], "open") if refused is None else (refused.status, [], str(refused.detail["error"]))


@route("POST /logout")
async def logout(call: Call) -> Answer:
    call.session.logout()
    return 204, [], ""


@route("POST /destroy")
async def destroy(call: Call) -> str:
    await settled(call.session.destroy())
    return "gone"


@route("GET /me")
async def me(call: Call) -> Answer:
    user = call.session.user_id
    return (401, [], "who are you?") if user is None else (200, [], user)


@route("POST /elevate")
async def elevate(call: Call) -> str:
    call.session["admin"] = True
    call.session.regenerate()
    return "elevated"


@route("POST /change-password")
async def change_password(call: Call) -> str:
    user = call.session.user_id
    await settled(call.session.end_all())
    call.session.login(user)
    return "changed"


@route("POST /email")
async def email(call: Call) -> Answer:
    """Needs a fresh proof of who it is."""
    proved = call.session.authenticated_at
    if proved is None:
        return 401, [], "who are you?"
    if datetime.fromtimestamp(call.time.now, UTC) - proved > FRESH:
        return 403, [], "reauth_required"
    return 200, [], "changed"


@route("POST /transfer")
async def transfer(call: Call) -> str:
    return f"transferred {len(call.body)}"


@route("GET /form")
async def form(call: Call) -> str:
    """A page with a form: its token, and no more."""
    return str(call.inside["coatcheck.csrf"].token(call.query.get("form")))


@route("POST /form")
async def form_after(call: Call) -> str:
    """A login that answers with a page that has a form."""
    call.session.login(call.query["user"])
    return str(call.inside["coatcheck.csrf"].token())


@route("GET /first")
async def first(call: Call) -> str:
    """A first visit that has a form on its page, and something to remember."""
    token = call.inside["coatcheck.csrf"].token()
    call.session["k"] = "v"
    return str(token)


@route("GET /sessions")
async def sessions(call: Call) -> Answer:
    session: BaseSession = call.session
    if session.user_id is None:
        return 401, [], "who are you?"
    devices = await settled(call.sessions.of(session.user_id).list())
    lines = [
        f"{'*' if device.handle == session.handle else '-'} {device.handle} {device.created_at:%F} {device.last_seen_at:%T}"
        f" [{device.user_agent}] [{device.address}] {device.method}"
        for device in devices
    ]
    return 200, [], "\n".join(lines)


@route("DELETE /sessions")
async def end_one(call: Call) -> Answer:
    user = call.session.user_id
    if user is None:
        return 401, [], "who are you?"
    ended = await settled(call.sessions.of(user).end(call.rest))
    return (204, [], "") if ended else (404, [], "no such session")


@route("POST /end-others")
async def end_others(call: Call) -> Any:
    refused = await email(call)
    return refused if refused[0] != 200 else str(await settled(call.session.end_others()))


# ---------------------------------------------------------------------------------------------- all kinds of responses


@route("POST /report")
async def report(call: Call) -> str:
    """What an error reporter sends off when the store fails: the traceback, with every frame's locals."""
    session = call.session
    session["reported"] = "v"
    {"login": lambda: session.login("ada"), "rotate": session.regenerate}.get(call.query["how"], str)()
    try:
        await settled(session.save())
    except SessionError as error:
        REPORTS.append("".join(TracebackException.from_exception(error, capture_locals=True).format()))
    return "reported"


@route("GET /id")
async def identity(call: Call) -> str:
    """Everything an error page could print of a session."""
    session = call.session
    session["k"] = "v"
    return " ".join(
        map(repr, (session, session.id, session.handle, session.cookie, dict(session), str(session)))
    )


@route("POST /everything")
async def everything(call: Call) -> str:
    session = call.session
    session["k"] = "v"
    session.login("ada")
    session.regenerate()
    session.flash("hello")
    await settled(session.save())
    session.login("ada")
    session["l"] = "w"
    await settled(session.save())
    session.regenerate()
    return "done"


@route("POST /boom")
async def boom(call: Call) -> str:
    call.session["k"] = "never kept"
    raise Boom


@route("GET /error")
async def error(call: Call) -> Answer:
    call.session["k"] = "v"
    return 500, [], "an error page"


@route("POST /redirect")
async def redirect(call: Call) -> Answer:
    call.session["k"] = "v"
    return 303, [("Location", "/read")], ""


@route("GET /not-modified")
async def not_modified(call: Call) -> Answer:
    call.session["k"] = "v"
    return 304, [("ETag", '"1"')], ""


@route("GET /stream")
async def stream(call: Call) -> Answer:
    call.session["k"] = "v"
    return 200, [], iter(["one ", "two ", "three"])


@route("GET /late")
async def late(call: Call) -> Answer:
    session = call.session

    def body() -> Iterator[str]:
        yield "one "
        try:
            session["k"] = "too late for a new session"
        except RuntimeError as error:
            yield type(error).__name__

    return 200, [], body()


@route("GET /cached")
async def cached(call: Call) -> Answer:
    """An application that says of itself what a cache may do; `cc` and `vary` are its words."""
    if call.query.get("look", "1") == "1":
        call.session.get("k")
    if "write" in call.query:
        call.session.increment("n")
    names = {"cc": "Cache-Control", "vary": "Vary"}
    return 200, [(field, call.query[name]) for name, field in names.items() if name in call.query], "cached"
