"""The real packages of the Node world, in a process of their own: what a Node application does with a session, done by it."""

import http.client
import json
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

__all__ = ["ROOM", "Answer", "NodeApp", "node_app"]

ROOM = Path(__file__).parent / "node"
Op = Sequence[Any]
"""What a handler is to do: a name of `operations` in app.mjs, and what it takes."""


@dataclass(frozen=True)
class Answer:
    """What an application answered."""

    status: int
    set_cookies: tuple[str, ...]
    body: Any
    headers: Sequence[tuple[str, str]] = ()

    @property
    def data(self) -> dict[str, Any]:
        """The session's data, without `cookie`."""
        return {key: value for key, value in self.body["data"].items() if key != "cookie"}

    @property
    def cookie(self) -> str:
        """What the browser sends from here on: `name=value` of the last Set-Cookie."""
        return self.set_cookies[-1].partition(";")[0]


class NodeApp:
    """A running application: see `app.mjs`."""

    patience = 60.0
    """Seconds for which an answer is waited for."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process, self.port = process, port

    @classmethod
    def start(cls, store: dict[str, Any] | None = None, **config: Any) -> Self:
        """Start one. `store` as in `stores.mjs`; `session`: express-session's options in its own words."""
        told = json.dumps({"store": store or {"kind": "memory"}, **config})
        process = subprocess.Popen(
            ["node", ROOM / "app.mjs", told], cwd=ROOM, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the Node application did not start:\n{process.communicate()[1]}")
        return cls(process, int(line))

    def stop(self) -> None:
        """End it, by its process id."""
        self._process.terminate()
        self._process.communicate(timeout=30)

    def run(
        self,
        *ops: Op,
        cookie: str = "",
        now: int | None = None,
        path: str = "/",
        headers: Sequence[tuple[str, str]] = (),
    ) -> Answer:
        """One request. `cookie` is the Cookie header; `now` the time in milliseconds."""
        sent = {"x-ops": urlsafe_b64encode(json.dumps(ops).encode()).decode().rstrip("="), **dict(headers)}
        if cookie:
            sent["cookie"] = cookie
        if now is not None:
            sent["x-now"] = str(now)
        return self._ask(path, sent)

    def log(self) -> list[Any]:
        """What the store was asked since the last time: [verb, id, body of a set]."""
        self._ask("/__flush", {})
        asked: list[Any] = self._ask("/__log", {}).body
        return asked

    def reached(self, name: str) -> None:
        """Return when a request waits: it does `["wait", name]`."""
        self._ask(f"/__reached?{name}", {})

    def go(self, name: str) -> None:
        """Let that request go on."""
        self._ask(f"/__go?{name}", {})

    def _ask(self, path: str, headers: dict[str, str]) -> Answer:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience)
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            text = response.read()
            fields = response.getheaders()
        finally:
            connection.close()
        cookies = tuple(value for name, value in fields if name.lower() == "set-cookie")
        return Answer(response.status, cookies, json.loads(text) if text.strip() else None, fields)


@contextmanager
def node_app(store: dict[str, Any] | None = None, **config: Any) -> Iterator[NodeApp]:
    """A Node application for the length of the block."""
    app = NodeApp.start(store, **config)
    try:
        yield app
    finally:
        app.stop()
