"""Sites of two worker processes over one store, and crowds of requests that meet in them.

Under uvicorn the workers are two servers, and every other request goes to each. Under gunicorn they are the two workers of one
server, neither of which takes as many connections as a crowd has: so some of it is in each.
"""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from coatcheck import SessionManager
from tests.web.crowd import CROWD
from tests.web.gates import Gate
from tests.web.servers import Browser, Seen, Server, gunicorn, uvicorn

_users = count()
Ask = tuple[dict[str, str], str]
"""What a browser holds, and what it asks for."""


@dataclass
class Site:
    """Servers of one application, and its store as a script sees it."""

    servers: list[Server]
    sessions: SessionManager

    def visit(self, path: str, cookies: dict[str, str] | None = None, *, server: int = 0) -> Seen:
        """Ask for a page; what the browser holds is changed as the answer says."""
        browser = Browser(
            self.servers[server % len(self.servers)], cookies={} if cookies is None else cookies
        )
        return browser.visit(path)

    def begun(self, path: str) -> dict[str, str]:
        """What a browser holds after this first visit."""
        cookies: dict[str, str] = {}
        assert self.visit(path, cookies).status == 200
        assert cookies
        return cookies

    def seen_by(self, cookies: dict[str, str], *, server: int = 0) -> dict[str, Any]:
        """Whose session that is, and what is in it."""
        answer: dict[str, Any] = json.loads(self.visit("/", dict(cookies), server=server).text)
        return answer

    def users_of(self, all_cookies: Sequence[dict[str, str]]) -> list[Any]:
        """Whom each of these logs in now."""
        with ThreadPoolExecutor(8) as pool:
            return [seen["user"] for seen in pool.map(self.seen_by, all_cookies)]

    @contextmanager
    def crowd(self, asks: Sequence[Ask]) -> Iterator["Crowd"]:
        """Have all of this asked at once. Within the block each request stands at one gate, its session loaded."""
        with Gate() as gate, ThreadPoolExecutor(len(asks)) as pool:
            answers = [
                pool.submit(
                    self.visit,
                    f"{path}{'&' if '?' in path else '?'}gate={gate.number}",
                    cookies,
                    server=number,
                )
                for number, (cookies, path) in enumerate(asks)
            ]
            workers = set(gate.for_all(len(asks)))
            try:
                yield Crowd(gate, answers, workers)
            finally:
                gate.open()


@dataclass
class Crowd:
    """Requests at a gate."""

    gate: Gate
    answers: list[Future[Seen]]
    workers: set[int]

    def goes_on(self) -> list[Seen]:
        """Open the gate. Returns the responses; each must be a 200."""
        self.gate.open()
        seen = [answer.result() for answer in self.answers]
        assert [response.status for response in seen] == [200] * len(seen)
        return seen


def at_once(site: Site, asks: Sequence[Ask]) -> list[Seen]:
    """Let a crowd go on that has met in both workers."""
    with site.crowd(asks) as crowd:
        assert len(crowd.workers) == 2
        return crowd.goes_on()


@contextmanager
def standing(server: Server, cookies: dict[str, str], path: str) -> Iterator[tuple[Gate, Future[Seen]]]:
    """Have this asked, and its request stand at a gate."""
    with Gate() as gate, ThreadPoolExecutor(1) as pool:
        answer = pool.submit(Browser(server, cookies=cookies).visit, f"{path}&gate={gate.number}")
        gate.for_all(1)
        try:
            yield gate, answer
        finally:
            gate.open()


def somebody() -> str:
    """A user id that no other test has."""
    return f"user{next(_users)}"


@contextmanager
def site(face: str, url: str, folder: Path) -> Iterator[Site]:
    """Two workers of `tests.web.crowd`, over the store of this URL."""
    env = {"STORE": url, "PATIENT": "yes"}
    with ExitStack() as stack:
        sessions = stack.enter_context(SessionManager(url))
        sessions.setup()
        if face == "starlette":
            servers = [
                stack.enter_context(uvicorn(f"tests.web.crowd:{face}", folder=folder, env=env))
                for _ in range(2)
            ]
        else:
            share = CROWD // 2 + 5
            options = ["--worker-connections", str(share), "--keep-alive", "0"]
            served = gunicorn(
                f"tests.web.crowd:{face}", folder=folder, env=env, workers=2, threads=share, options=options
            )
            servers = [stack.enter_context(served)]
        yield Site(servers, sessions)
