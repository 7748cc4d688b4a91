"""Quart: log in, count, see where you are logged in, end one of these logins, log out.

QUART_SECRET_KEY=$(coatcheck secret) QUART_SESSION_STORE=sqlite:///sessions.db quart --app examples.quart_app run
"""

from quart import Quart, ResponseReturnValue, abort, redirect, request, session

from coatcheck.quart import CoatCheck
from examples import pages

app = Quart(__name__)
app.config.from_prefixed_env()  # QUART_SECRET_KEY, QUART_SESSION_STORE
CoatCheck(app)


@app.get("/")
async def home() -> ResponseReturnValue:
    return pages.home(session.user_id, session.get("count", 0)), pages.PRIVATE


@app.post("/login")
async def login() -> ResponseReturnValue:
    form = await request.form
    if not pages.is_right(form["user"], form["password"]):
        abort(401, pages.WRONG)
    session.login(form["user"])
    return redirect("/", 303)


@app.post("/count")
async def count() -> ResponseReturnValue:
    session.increment("count")
    return redirect("/", 303)


@app.get("/devices")
async def devices() -> ResponseReturnValue:
    if session.user_id is None:
        abort(401)
    return pages.devices(await session.devices(), session.handle), pages.PRIVATE


@app.post("/devices/end")
async def end_device() -> ResponseReturnValue:
    if session.user_id is None:
        abort(401)
    await session.end_device((await request.form)["handle"])
    return redirect("/devices", 303)


@app.post("/logout")
async def logout() -> ResponseReturnValue:
    session.logout()
    return redirect("/", 303)
