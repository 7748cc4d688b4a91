"""FastAPI: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) uvicorn examples.fastapi_app:app
"""

import os
from typing import Annotated

from fastapi import FastAPI, Form, HTTPException
from fastapi.responses import HTMLResponse, RedirectResponse

from coatcheck.fastapi import CurrentUser, SessionDep, SessionMiddleware
from examples import pages

app = FastAPI()
app.add_middleware(
    SessionMiddleware,
    store=os.environ.get("SESSION_STORE", "sqlite:///sessions.db"),
    secret=os.environ["SESSION_SECRET"],
)


@app.get("/")
async def home(session: SessionDep) -> HTMLResponse:
    return HTMLResponse(pages.home(session.user_id, session.get("count", 0)), headers=pages.PRIVATE)


@app.post("/login")
async def login(
    session: SessionDep, user: Annotated[str, Form()], password: Annotated[str, Form()]
) -> RedirectResponse:
    if not pages.is_right(user, password):
        raise HTTPException(401, pages.WRONG)
    session.login(user)
    return RedirectResponse("/", 303)


@app.post("/count")
async def count(session: SessionDep) -> RedirectResponse:
    session.increment("count")
    return RedirectResponse("/", 303)


@app.get("/devices")
async def devices(session: SessionDep, user: CurrentUser) -> HTMLResponse:  # 401 for everybody else
    page = pages.devices(await session.devices(), session.handle)
    return HTMLResponse(page, headers=pages.PRIVATE)


@app.post("/devices/end")
async def end_device(
    session: SessionDep, user: CurrentUser, handle: Annotated[str, Form()]
) -> RedirectResponse:
    await session.end_device(handle)
    return RedirectResponse("/devices", 303)


@app.post("/logout")
async def logout(session: SessionDep) -> RedirectResponse:
    session.logout()
    return RedirectResponse("/", 303)
