"""Sign up, sign in, sign out, and who am I."""

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coatcheck import AsyncSession, Throttled
from coatcheck.starlette import get_session
from demo.users import LONGEST, SHORTEST, NameTaken, objection
from demo.web import house, problem, render, see_other, span, wants_html

__all__ = ["login", "login_page", "logout", "me", "signup", "signup_page"]

WRONG = "The username or the password is wrong."
PAGES = frozenset({"/", "/cart", "/devices", "/inspector", "/tokens"})
"""Where a login may lead. Nothing else: an open redirect is a phisher's tool."""
_hashing = asyncio.Semaphore(2)
"""Argon2 takes 64 MiB a time; a crowd at the door must not take all there is."""


async def login_page(request: Request) -> Response:
    """The form."""
    session = await get_session(request)
    return _login_form(request, session, request.query_params.get("next", "/"))


async def login(request: Request) -> Response:
    """Check the password; make this the user's session, under a new id."""
    session = await get_session(request)
    username, password, following = await _fields(request, "username", "password", "next")
    try:
        async with house(request).throttle.attempt(request, account=username) as attempt:
            async with _hashing:
                user_id = await asyncio.to_thread(house(request).users.check, attempt.account, password)
            attempt.succeeded = user_id is not None
    except Throttled as error:  # before any password was looked at; a script gets the library's own answer
        if not wants_html(request):
            raise
        return _slow_down(request, session, following, username, error)
    if user_id is None:
        if not wants_html(request):
            return problem(401, WRONG)
        return _login_form(request, session, following, username=username, error=WRONG, status=401)
    return _welcome(request, session, user_id, following)


async def signup_page(request: Request) -> Response:
    """The form."""
    return _signup_form(request, await get_session(request))


async def signup(request: Request) -> Response:
    """Open an account and sign in."""
    session = await get_session(request)
    username, password = await _fields(request, "username", "password")
    error = objection(username, password)
    if error is None:
        try:
            async with _hashing:
                user_id = await asyncio.to_thread(house(request).users.add, username, password)
            return _welcome(request, session, user_id, "/")
        except NameTaken:
            error = "Somebody has this username already."
    return _signup_form(request, session, username=username, error=error, status=422)


async def logout(request: Request) -> Response:
    """End the session, here and on the server. A second time does no harm."""
    session = await get_session(request)
    session.logout()
    if not wants_html(request):
        return JSONResponse({"user": None})
    session.flash("You are signed out. Your old ticket opens nothing any more.", "success")
    return see_other("/")


async def me(request: Request) -> Response:
    """Who is signed in, for scripts."""
    session = await get_session(request)
    name = house(request).users.name(session.user_id)
    return problem(401, "Not signed in.") if name is None else JSONResponse({"user": name})


async def _fields(request: Request, *names: str) -> list[str]:
    form = await request.form(max_files=0, max_fields=20)
    return [str(form.get(name, "")) for name in names]


def _welcome(request: Request, session: AsyncSession[Any], user_id: int, following: str) -> Response:
    session.login(user_id, method="pwd")
    name = house(request).users.name(str(user_id))
    if not wants_html(request):
        return JSONResponse({"user": name})
    session.flash(
        f"Welcome, {name}. You have a new ticket; the one from before the login is void.", "success"
    )
    return see_other(following if following in PAGES else "/")


def _login_form(
    request: Request,
    session: AsyncSession[Any],
    following: str,
    *,
    username: str = "",
    error: str | None = None,
    status: int = 200,
) -> Response:
    values = {"following": following if following in PAGES else "/", "username": username, "error": error}
    return render(request, session, "login.html", status=status, longest=LONGEST, **values)


def _slow_down(
    request: Request, session: AsyncSession[Any], following: str, username: str, error: Throttled
) -> Response:
    said = f"Too many tries. Wait for {span(error.retry_after)}, then try again."
    page = _login_form(request, session, following, username=username, error=said, status=429)
    page.headers["Retry-After"] = str(error.retry_after)
    return page


def _signup_form(
    request: Request,
    session: AsyncSession[Any],
    *,
    username: str = "",
    error: str | None = None,
    status: int = 200,
) -> Response:
    bounds = {"shortest": SHORTEST, "longest": LONGEST}
    return render(request, session, "signup.html", status=status, username=username, error=error, **bounds)
