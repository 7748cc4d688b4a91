"""Tokens of one store in both faces, and endpoints that are asked without a server: a request in, an answer out."""

import asyncio
import base64
import io
from collections.abc import Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

import msgspec

from coatcheck import AsyncSessionManager, Event, Options, SessionManager
from coatcheck.bearer import asgi, wsgi
from coatcheck.bearer.gate import Gate, Needs
from coatcheck.bearer.http import Asked, Refused
from coatcheck.core.stepping import run_now
from coatcheck.tokens import AsyncTokens, Key, KeyRing, Pair, Tokens
from tests.web.rig import Counted, Time

KEY = Key.generate("ES256", kid="k1")
ISSUER = "https://id.example"
FORM = "application/x-www-form-urlencoded"
FACES = ("asgi", "wsgi")


class Got(NamedTuple):
    """An answer as it came, names in lower case."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """The value of a header that is there at most once."""
        found = [value for field, value in self.headers if field.lower() == name]
        assert len(found) <= 1, found
        return found[0] if found else None

    def all(self, name: str) -> list[str]:
        """The values of every header of this name."""
        return [value for field, value in self.headers if field.lower() == name]

    @property
    def json(self) -> Any:
        """The body."""
        return msgspec.json.decode(self.body)


class World:
    """One store, one clock, and tokens in the face of the test."""

    def __init__(self, face: str, *, keys: KeyRing | None = None, **terms: Any) -> None:
        self.face, self.time, self.store = face, Time(), Counted()
        self.events: list[Event] = []
        options = Options(on_event=self.events.append)
        ring = KeyRing([KEY]) if keys is None else keys
        about: dict[str, Any] = {"keys": ring, "issuer": ISSUER, "audience": "api", **terms}
        self.blocking = SessionManager(self.store, options=options, clock=self.time.clock)
        awaiting = AsyncSessionManager(self.store, options=options, clock=self.time.clock)
        self.sync: Tokens = Tokens(self.blocking, **about)
        self.tokens: Any = self.sync if face == "wsgi" else AsyncTokens(awaiting, **about)

    def issue(self, user: str = "ada", **terms: Any) -> Pair:
        """A login by tokens."""
        return self.sync.issue(user, **terms)

    def reasons(self) -> list[str]:
        """What the log was told since last asked."""
        told = [event.detail for event in self.events if event.name == "tokens.refused"]
        self.events.clear()
        return told

    # ---- the endpoints

    def desk(self, **options: Any) -> "Desk":
        """The endpoints, in the shell of this face."""
        shell = wsgi.TokenEndpoints if self.face == "wsgi" else asgi.TokenEndpoints
        return Desk(shell(self.tokens, **options))

    # ---- the gate

    def gate(self, **options: Any) -> "Door":
        """The rules for access tokens."""
        return Door(Gate(self.tokens, awaits=self.face == "asgi", **options), self.face)


class Door:
    """A gate, asked as a framework would."""

    def __init__(self, gate: Gate[Any], face: str) -> None:
        self.gate, self._face = gate, face

    def enter(self, *headers: tuple[str, str], needs: Needs | None = None, **about: Any) -> Any:
        """The claims of whoever comes with these headers, or the answer that they get."""
        asked = Asked(about.pop("method", "GET"), headers, **about)
        flow = self.gate.admit(asked, needs or Needs())
        try:
            return run_now(flow) if self._face == "wsgi" else asyncio.run(flow)
        except Refused as refused:
            return Got(refused.answer.status, list(refused.answer.headers), refused.answer.body)


class Desk:
    """Endpoints behind a shell, asked without a server."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def post(
        self,
        path: str,
        form: Mapping[str, str] | None = None,
        *headers: tuple[str, str],
        basic: tuple[str, str] | None = None,
        **fields: str,
    ) -> Got:
        """Send a form."""
        body = urlencode({**(form or {}), **fields}).encode()
        more = list(headers)
        if basic is not None:
            more.append(("authorization", "Basic " + base64.b64encode(":".join(basic).encode()).decode()))
        return self.send("POST", path, ("content-type", FORM), *more, body=body)

    def get(self, path: str, *headers: tuple[str, str]) -> Got:
        """Ask for a document."""
        return self.send("GET", path, *headers)

    def send(
        self,
        method: str,
        path: str,
        *headers: tuple[str, str],
        body: bytes = b"",
        length: str | None = None,
        leaves: bool = False,
    ) -> Got:
        """Send a request as it is; under ASGI the client may leave before its end."""
        size = str(len(body)) if length is None else length
        fields = [*headers, *([("content-length", size)] if size and (body or length) else [])]
        if isinstance(self.app, asgi.TokenEndpoints):
            return asyncio.run(self._over_asgi(method, path, fields, body, leaves))
        return self._over_wsgi(method, path, fields, body)

    async def _over_asgi(
        self, method: str, path: str, fields: list[tuple[str, str]], body: bytes, leaves: bool
    ) -> Got:
        sent: list[Any] = []
        pieces = [body[i : i + 5000] for i in range(0, len(body), 5000)] or [b""]

        async def receive() -> Any:
            if not pieces:
                return {"type": "http.disconnect"}
            piece = pieces.pop(0)
            return {"type": "http.request", "body": piece, "more_body": bool(pieces) or leaves}

        async def send(message: Any) -> None:
            sent.append(message)

        headers = [(name.encode(), value.encode("latin-1")) for name, value in fields]
        scope = {
            "type": "http", "method": method, "path": "/auth" + path, "root_path": "/auth", "headers": headers,
            "client": ("192.0.2.7", 5000),
        }  # fmt: skip
        await self.app(scope, receive, send)
        start, end = sent
        names = [(name.decode(), value.decode("latin-1")) for name, value in start["headers"]]
        return Got(start["status"], names, end["body"])

    def _over_wsgi(self, method: str, path: str, fields: list[tuple[str, str]], body: bytes) -> Got:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method, "PATH_INFO": path, "SCRIPT_NAME": "/auth", "REMOTE_ADDR": "192.0.2.7",
            "wsgi.input": io.BytesIO(body),
        }  # fmt: skip
        for name, value in fields:
            key = name.upper().replace("-", "_")
            key = key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"
            environ[key] = (
                f"{environ[key]},{value}" if key in environ else value
            )  # what servers do (PEP 3333)
        started: list[Any] = []
        pieces = self.app(environ, lambda status, headers: started.append((status, headers)))
        ((status, headers),) = started
        return Got(int(status.split()[0]), headers, b"".join(pieces))
