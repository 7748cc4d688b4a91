"""Sessions shared with Node, for any WSGI application (PEP 3333): `environ["coatcheck.session"]`.

The session is stored when the application calls `start_response`, before the server is told; what a streamed body changes
afterwards is stored at its end.
"""

import sys
from collections.abc import Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coatcheck import visit
from coatcheck._wsgi_body import Body
from coatcheck.arrivals import of_environ, target_of_environ
from coatcheck.core.stepping import run_now
from coatcheck.dialects.express import visits
from coatcheck.dialects.express.faces import ExpressSession
from coatcheck.dialects.express.flow import Flow
from coatcheck.dialects.express.session import Phase
from coatcheck.errors import StoreError

__all__ = ["WsgiSessions"]

Headers = list[tuple[str, str]]
KEY = "coatcheck.session"


class WsgiSessions:
    """The middleware that `ExpressSessions.wsgi` makes."""

    def __init__(self, app: WSGIApplication, flow: Flow, *, environ_key: str = KEY) -> None:
        self.app, self.flow, self._key = app, flow, environ_key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        arrival = of_environ(environ)
        mounted = isinstance(
            environ.get(self._key), ExpressSession
        )  # under itself: one session a request (1.1)
        if mounted or not visits.covers(self.flow, arrival, target_of_environ(environ)):
            return self.app(environ, start_response)
        session = visits.arrive(self.flow, ExpressSession, arrival)
        passage = _Passage(self, session, environ, start_response)
        try:
            run_now(self.flow.open(session, visits.named(self.flow, arrival.cookies), session._new_cookie))
            environ[self._key] = session
            body = self.app(environ, passage.start_response)
        except BaseException as error:
            return (passage.fail(error),)
        return Body(body, passage.finish, passage.fail)


class _Passage:
    """One request on its way through: its session, and how far the response is."""

    def __init__(
        self,
        middleware: WsgiSessions,
        session: ExpressSession,
        environ: WSGIEnvironment,
        start_response: StartResponse,
    ) -> None:
        self._flow, self._key = middleware.flow, middleware._key
        self._session, self._environ, self._start_response = session, environ, start_response
        self._is_kept, self._sends = True, False

    def start_response(self, status: str, headers: Headers, exc_info: Any = None) -> Any:
        """Store, and tell the server. Called again (with exc_info, PEP 3333), it says the same of what is stored already."""
        session = self._session
        if session._phase is Phase.OPEN:
            self._sends = self._commit()
            session._phase = Phase.STREAMING
        return self._tell(status, self._dressed(headers), exc_info)

    def _commit(self) -> bool:
        session = self._session
        self._is_kept = visits.is_there(session, self._environ.get(self._key), f"environ[{self._key!r}]")
        if not self._is_kept:
            run_now(self._flow.unset(session))
            return False
        return run_now(self._flow.commit(session))

    def _commit_rest(self) -> None:
        if visits.is_there(self._session, self._environ.get(self._key), f"environ[{self._key!r}]"):
            run_now(self._flow.commit_rest(self._session))
        else:
            run_now(self._flow.unset(self._session))

    def _dressed(self, headers: Headers) -> Headers:
        """The headers, with what must be said about the session."""
        vary, cache = _joined(headers, "vary"), _joined(headers, "cache-control")
        sends = self._sends and not self._session._is_destroyed
        said = visits.say(self._session, self._flow, sends=sends, vary=vary, cache_control=cache)
        for name, value in (("Vary", said.vary), ("Cache-Control", said.cache_control)):
            if value is not None:
                headers = [item for item in headers if item[0].lower() != name.lower()] + [(name, value)]
        return headers if said.set_cookie is None else [*headers, ("Set-Cookie", said.set_cookie)]

    def _tell(self, status: str, headers: Headers, exc_info: Any) -> Any:
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def finish(self) -> None:
        """The body has ended."""
        session = self._session
        try:
            if self._is_kept and session._phase is Phase.STREAMING:
                self._commit_rest()
        finally:
            session._phase = Phase.DONE

    def fail(self, error: BaseException) -> bytes:
        """The page in the application's place, where the store is to blame. Raises `error` for everything else."""
        started = self._session._phase is not Phase.OPEN
        self._session._phase = Phase.DONE
        if isinstance(error, StoreError):
            self._flow.failed(error)
        if not isinstance(error, visit.REFUSED):
            raise error
        refusal = visit.answer_to(error)
        self._tell(
            f"{refusal.status} {refusal.reason}", list(refusal.headers), sys.exc_info() if started else None
        )
        return refusal.body


def _joined(headers: Headers, name: str) -> str | None:
    found = [value for field, value in headers if field.lower() == name]
    return ", ".join(found) if found else None
