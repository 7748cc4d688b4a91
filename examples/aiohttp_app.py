"""aiohttp: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) python -m aiohttp.web examples.aiohttp_app:make
"""

import os
from collections.abc import Sequence

from aiohttp import web

from coatcheck.aiohttp import AiohttpSession, get_session, setup
from examples import pages

routes = web.RouteTableDef()


def shown(page: str) -> web.Response:
    return web.Response(text=page, content_type="text/html", headers=pages.PRIVATE)


async def logged_in(request: web.Request) -> AiohttpSession:
    session = await get_session(request)
    if session.user_id is None:
        raise web.HTTPUnauthorized
    return session


@routes.get("/")
async def home(request: web.Request) -> web.Response:
    session = await get_session(request)
    return shown(pages.home(session.user_id, session.get("count", 0)))


@routes.post("/login")
async def login(request: web.Request) -> web.Response:
    form = await request.post()
    user = str(form.get("user"))
    if not pages.is_right(user, str(form.get("password"))):
        raise web.HTTPUnauthorized(text=pages.WRONG)
    (await get_session(request)).login(user)
    raise web.HTTPSeeOther("/")


@routes.post("/count")
async def count(request: web.Request) -> web.Response:
    (await get_session(request)).increment("count")
    raise web.HTTPSeeOther("/")


@routes.get("/devices")
async def devices(request: web.Request) -> web.Response:
    session = await logged_in(request)
    return shown(pages.devices(await session.devices(), session.handle))


@routes.post("/devices/end")
async def end_device(request: web.Request) -> web.Response:
    session = await logged_in(request)
    await session.end_device(str((await request.post()).get("handle")))
    raise web.HTTPSeeOther("/devices")


@routes.post("/logout")
async def logout(request: web.Request) -> web.Response:
    (await get_session(request)).logout()
    raise web.HTTPSeeOther("/")


def make(argv: Sequence[str] = ()) -> web.Application:
    app = web.Application()
    store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
    setup(app, store=store, secret=os.environ["SESSION_SECRET"])
    app.add_routes(routes)
    return app
