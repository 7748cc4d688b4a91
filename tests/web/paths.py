"""Several applications side by side in one server, by the first part of the path; and the secret of all applications in tests.

Apart from `tests.web.apps`, which imports every framework: a server process of one framework starts sooner without the others.
"""

from collections.abc import Iterable
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coatcheck.asgi import App, Receive, Scope, Send

SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"


def by_path(main: App, **others: App) -> App:
    """The application whose name begins the path, or `main`."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await main(scope, receive, send)
            return
        await others.get(scope["path"].split("/")[1], main)(scope, receive, send)

    return app


def wsgi_by_path(main: WSGIApplication, **others: WSGIApplication) -> WSGIApplication:
    """The application whose name begins the path, or `main`."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return others.get(environ["PATH_INFO"].split("/")[1], main)(environ, start_response)

    return app
