"""The ready-made devices page in a real Chromium: axe's verdict, the keyboard, a form of another origin, an old login."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route

from coatcheck.devices import DevicesApp
from coatcheck.starlette import SessionMiddleware
from coatcheck.testing.frozen import FrozenClock
from tests.demo.chromium import need_chromium

HERE = Path(__file__).parent
SECRET = "vQ0m6nTzKxw3Jr8LdYbPfE5sGh1UaC9oXiR2tWqNyZk"


def application() -> Starlette:
    """Logins by address, the page, and an evil one."""
    clock = FrozenClock()

    async def login(request: Request) -> HTMLResponse:
        request.session.login(request.path_params["user"])  # type: ignore[attr-defined]  # coatcheck's
        return HTMLResponse("welcome")

    async def later(request: Request) -> HTMLResponse:
        clock.tick("11m")
        return HTMLResponse("eleven minutes later")

    async def evil(request: Request) -> HTMLResponse:
        where = f"http://localhost:{request.url.port}/account/devices/end-others"
        return HTMLResponse(
            f'<form method="post" action="{where}"><input name="csrf_token" value="x"></form>'
        )

    async def sign_in(request: Request) -> HTMLResponse:
        return HTMLResponse("please sign in")

    pages: dict[str, Any] = {"/login/{user}": login, "/later": later, "/evil": evil, "/sign-in": sign_in}
    devices = DevicesApp(login_url="/sign-in")
    routes = [Mount("/account/devices", devices), *(Route(path, page) for path, page in pages.items())]
    app = Starlette(routes=routes)
    app.add_middleware(SessionMiddleware, secret=SECRET, clock=clock)
    return app


@pytest.fixture
def url() -> Iterator[str]:
    server = uvicorn.Server(uvicorn.Config(application(), host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://localhost:{port}"
    server.should_exit = True
    thread.join()


def test_the_devices_page_in_the_browser(url: str) -> None:
    need_chromium()
    done = subprocess.run(["node", "devices.mjs", url], cwd=HERE, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
