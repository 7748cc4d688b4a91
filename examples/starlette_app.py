"""Starlette: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) uvicorn examples.starlette_app:app
"""

import os

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from coatcheck.starlette import SessionMiddleware
from examples import pages


async def home(request: Request) -> HTMLResponse:
    session = request.session
    return HTMLResponse(pages.home(session.user_id, session.get("count", 0)), headers=pages.PRIVATE)


async def login(request: Request) -> RedirectResponse:
    async with request.form() as form:
        user, password = str(form.get("user")), str(form.get("password"))
    if not pages.is_right(user, password):
        raise HTTPException(401, pages.WRONG)
    request.session.login(user)
    return RedirectResponse("/", 303)


async def count(request: Request) -> RedirectResponse:
    request.session.increment("count")
    return RedirectResponse("/", 303)


async def devices(request: Request) -> HTMLResponse:
    session = request.session
    if session.user_id is None:
        raise HTTPException(401)
    page = pages.devices(await session.devices(), session.handle)
    return HTMLResponse(page, headers=pages.PRIVATE)


async def end_device(request: Request) -> RedirectResponse:
    if request.session.user_id is None:
        raise HTTPException(401)
    async with request.form() as form:
        await request.session.end_device(str(form.get("handle")))
    return RedirectResponse("/devices", 303)


async def logout(request: Request) -> RedirectResponse:
    request.session.logout()
    return RedirectResponse("/", 303)


shown = [Route("/", home), Route("/devices", devices)]
done = {"/login": login, "/count": count, "/devices/end": end_device, "/logout": logout}
app = Starlette(routes=[*shown, *(Route(path, act, methods=["POST"]) for path, act in done.items())])
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("SESSION_STORE", "sqlite:///sessions.db"),
    secret_key=os.environ["SESSION_SECRET"],
)
