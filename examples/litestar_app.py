"""Litestar: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) litestar --app examples.litestar_app:app run
"""

import os
from typing import Annotated

from litestar import Litestar, Response, get, post
from litestar.enums import MediaType, RequestEncodingType
from litestar.exceptions import NotAuthorizedException
from litestar.params import Body
from litestar.response import Redirect

from coatcheck.litestar import CoatCheck, SessionDep, require_login
from examples import pages

Form = Annotated[dict[str, str], Body(media_type=RequestEncodingType.URL_ENCODED)]


def see_other(path: str) -> Redirect:
    return Redirect(path, status_code=303)


@get("/", media_type=MediaType.HTML)
async def home(session: SessionDep) -> Response[str]:
    return Response(pages.home(session.user_id, session.get("count", 0)), headers=pages.PRIVATE)


@post("/login")
async def login(session: SessionDep, data: Form) -> Redirect:
    if not pages.is_right(data["user"], data["password"]):
        raise NotAuthorizedException(pages.WRONG)
    session.login(data["user"])
    return see_other("/")


@post("/count")
async def count(session: SessionDep) -> Redirect:
    session.increment("count")
    return see_other("/")


@get("/devices", media_type=MediaType.HTML, guards=[require_login])
async def devices(session: SessionDep) -> Response[str]:
    return Response(pages.devices(await session.devices(), session.handle), headers=pages.PRIVATE)


@post("/devices/end", guards=[require_login])
async def end_device(session: SessionDep, data: Form) -> Redirect:
    await session.end_device(data["handle"])
    return see_other("/devices")


@post("/logout")
async def logout(session: SessionDep) -> Redirect:
    session.logout()
    return see_other("/")


store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app = Litestar(
    [home, login, count, devices, end_device, logout],
    plugins=[CoatCheck(store=store, secret=os.environ["SESSION_SECRET"])],
)
