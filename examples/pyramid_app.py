"""Pyramid: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) gunicorn --threads 4 examples.pyramid_app:app
"""

import os

from pyramid.config import Configurator
from pyramid.httpexceptions import HTTPSeeOther, HTTPUnauthorized
from pyramid.request import Request
from pyramid.response import Response

from coatcheck.wsgi import SessionMiddleware
from examples import pages


def home(request: Request) -> Response:
    session = request.session
    return Response(pages.home(session.user_id, session.get("count", 0)), headers=pages.PRIVATE)


def login(request: Request) -> Response:
    user = request.POST.get("user", "")
    if not pages.is_right(user, request.POST.get("password", "")):
        raise HTTPUnauthorized(pages.WRONG)
    request.session.login(user)
    return HTTPSeeOther("/")


def count(request: Request) -> Response:
    request.session.increment("count")
    return HTTPSeeOther("/")


def devices(request: Request) -> Response:
    session = request.session
    if session.user_id is None:
        raise HTTPUnauthorized
    return Response(pages.devices(session.devices(), session.handle), headers=pages.PRIVATE)


def end_device(request: Request) -> Response:
    if request.session.user_id is None:
        raise HTTPUnauthorized
    request.session.end_device(request.POST.get("handle", ""))
    return HTTPSeeOther("/devices")


def logout(request: Request) -> Response:
    request.session.logout()
    return HTTPSeeOther("/")


with Configurator() as config:
    config.set_session_factory(lambda request: request.environ["coatcheck.session"])
    for path, view, method in (
        ("/", home, "GET"),
        ("/login", login, "POST"),
        ("/count", count, "POST"),
        ("/devices", devices, "GET"),
        ("/devices/end", end_device, "POST"),
        ("/logout", logout, "POST"),
    ):
        config.add_route(path, path)
        config.add_view(view, route_name=path, request_method=method)
    site = config.make_wsgi_app()

store = os.environ.get("SESSION_STORE", "sqlite:///sessions.db")
app = SessionMiddleware(site, store=store, secret=os.environ["SESSION_SECRET"])
