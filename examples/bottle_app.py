"""Bottle: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) gunicorn --threads 4 examples.bottle_app:app
"""

import os

from bottle import Bottle, abort, redirect, request, response

from coatcheck.wsgi import SessionMiddleware
from examples import pages

site = Bottle()
site.catchall = False  # an exception is the middleware's to see


@site.get("/")
def home() -> str:
    response.headers.update(pages.PRIVATE)
    return pages.home(request.session.user_id, request.session.get("count", 0))


@site.post("/login")
def login() -> None:
    user = request.forms.get("user", "")
    if not pages.is_right(user, request.forms.get("password", "")):
        abort(401, pages.WRONG)
    request.session.login(user)
    redirect("/", 303)


@site.post("/count")
def count() -> None:
    request.session.increment("count")
    redirect("/", 303)


@site.get("/devices")
def devices() -> str:
    if request.session.user_id is None:
        abort(401)
    response.headers.update(pages.PRIVATE)
    return pages.devices(request.session.devices(), request.session.handle)


@site.post("/devices/end")
def end_device() -> None:
    if request.session.user_id is None:
        abort(401)
    request.session.end_device(request.forms.get("handle", ""))
    redirect("/devices", 303)


@site.post("/logout")
def logout() -> None:
    request.session.logout()
    redirect("/", 303)


app = SessionMiddleware(
    site,
    store=os.environ.get("SESSION_STORE", "sqlite:///sessions.db"),
    secret=os.environ["SESSION_SECRET"],
    environ_key="bottle.request.ext.session",  # what Bottle calls request.session
)
