"""The pages of the tests' Django project: the scenarios every face has, the crowd's page, and what Django's own auth does."""

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

from django.contrib import messages
from django.contrib.auth import alogin, alogout, login, logout, update_session_auth_hash
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse

from tests.web.apps import answer
from tests.web.gates import through, through_in_a_thread


def scenario(request: HttpRequest, page: str) -> HttpResponse | StreamingHttpResponse:
    """What `tests.web.apps` does, in Django."""
    session: Any = request.session
    status, headers, body = answer(page, request.GET.dict(), session)
    kind = HttpResponse if isinstance(body, str) else StreamingHttpResponse
    response: Any = kind(body, status=status)
    for name, value in headers:
        response.headers[name] = f"{response.headers[name]}, {value}" if name in response.headers else value
    return response


async def ascenario(request: HttpRequest, page: str) -> HttpResponse | StreamingHttpResponse:
    """The same in an async view: what it says to `request.session` is not awaited."""
    response = scenario(request, page)
    if isinstance(response, StreamingHttpResponse):
        pieces: Any = response.streaming_content
        response.streaming_content = _trickle(pieces)
    return response


async def _trickle(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        await asyncio.sleep(0)
        yield piece


# --------------------------------------------------------------------------------------------------------- the crowd


def crowd(request: HttpRequest) -> JsonResponse:
    """A request that may stand at a gate, its session loaded, before it changes something."""
    session: Any = request.session
    session.get("n")
    if gate := request.GET.get("gate"):
        through_in_a_thread(gate)
    return _change(session, request)


async def acrowd(request: HttpRequest) -> JsonResponse:
    session: Any = request.session
    await session.aget("n")
    if gate := request.GET.get("gate"):
        await through(gate)
    return _change(session, request)


def _change(session: Any, request: HttpRequest) -> JsonResponse:
    query = request.GET
    if key := query.get("key"):
        session[key] = key
    if "count" in query:
        session.increment("n")
    if user := query.get("login"):
        session.login(user)
    if "logout" in query:
        session.flush()
    return JsonResponse({"user": session.user_id, "data": dict(session)})


# -------------------------------------------------------------------------------------------------- auth, and the rest


def whoami(request: HttpRequest) -> JsonResponse:
    session: Any = request.session
    user: Any = request.user
    return JsonResponse({"user": user.get_username(), "user_id": session.user_id, "key": session.session_key})


async def awhoami(request: HttpRequest) -> JsonResponse:
    session: Any = request.session
    user = await request.auser()
    return JsonResponse({"user": user.get_username(), "user_id": session.user_id, "key": session.session_key})


def sign_in(request: HttpRequest, name: str) -> HttpResponse:
    login(request, User.objects.get(username=name))
    return HttpResponse("welcome")


def sign_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("bye")


async def asign_in(request: HttpRequest, name: str) -> HttpResponse:
    await alogin(request, await User.objects.aget(username=name))
    return HttpResponse("welcome")


async def asign_out(request: HttpRequest) -> HttpResponse:
    await alogout(request)
    return HttpResponse("bye")


def change_password(request: HttpRequest, password: str) -> HttpResponse:
    user: Any = request.user
    user.set_password(password)
    user.save()
    update_session_auth_hash(request, user)
    return HttpResponse("changed")


@login_required
def members(request: HttpRequest) -> HttpResponse:
    return HttpResponse("members only")


def leave_message(request: HttpRequest) -> HttpResponse:
    messages.success(request, "Saved")
    return HttpResponse("left")


def read_messages(request: HttpRequest) -> HttpResponse:
    return HttpResponse(" ".join(str(message) for message in messages.get_messages(request)))


def not_found(request: HttpRequest) -> HttpResponse:
    request.session["seen"] = "not found"
    raise Http404


def server_error(request: HttpRequest) -> HttpResponse:
    request.session["seen"] = "error"
    return HttpResponse("sorry", status=502)


def key_for_a_cart(request: HttpRequest) -> HttpResponse:
    """What shops do: a key for who has no account."""
    if not request.session.session_key:
        request.session.create()
    return HttpResponse(request.session.session_key)


async def akey_for_a_cart(request: HttpRequest) -> HttpResponse:
    if not request.session.session_key:
        await request.session.acreate()
    return HttpResponse(request.session.session_key)


async def awaits(request: HttpRequest) -> HttpResponse:
    """An async view that awaits everything."""
    session: Any = request.session
    await session.aset("n", await session.aget("n", 0) + 1)
    return HttpResponse(str(await session.aget("n")))


async def saves_without_waiting(request: HttpRequest) -> HttpResponse:
    request.session["n"] = 1
    request.session.save()
    return HttpResponse("saved")


def thread(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(threading.current_thread() is threading.main_thread()))
