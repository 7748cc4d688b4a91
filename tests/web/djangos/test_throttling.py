"""A throttled login and limited views under Django, sync and async, through its test clients."""

import asyncio
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from coatcheck.django import RateLimit
from coatcheck.throttling import LoginThrottle

logins = LoginThrottle(by_account="3/minute")


def login(request: HttpRequest) -> HttpResponse:
    with logins.attempt(request, account="ada") as attempt:
        attempt.succeeded = request.GET["password"] == "right"
    return HttpResponse("in" if attempt.succeeded else "wrong")


async def alogin(request: HttpRequest) -> HttpResponse:
    async with logins.attempt(request, account="ada") as attempt:
        attempt.succeeded = request.GET["password"] == "right"
    return HttpResponse("in" if attempt.succeeded else "wrong")


@RateLimit("2/minute")
def limited(request: HttpRequest) -> HttpResponse:
    return HttpResponse("limited")


@RateLimit("2/minute")
async def alimited(request: HttpRequest) -> HttpResponse:
    return HttpResponse("limited")


urlpatterns = [
    path("login", login),
    path("alogin", alogin),
    path("limited", limited),
    path("alimited", alimited),
]


class Visitor:
    """Asks over WSGI or ASGI."""

    def __init__(self, face: str) -> None:
        self.prefix = "/a" if face == "asgi" else "/"
        self.client: Any = AsyncClient() if face == "asgi" else Client()

    def get(self, page: str) -> Any:
        response = self.client.get(self.prefix + page)
        return asyncio.run(response) if asyncio.iscoroutine(response) else response


@pytest.fixture(params=["wsgi", "asgi"])
def visitor(request: pytest.FixtureRequest) -> Any:
    with override_settings(ROOT_URLCONF=__name__):
        yield Visitor(request.param)


def test_a_login_is_throttled_and_the_owner_is_known(visitor: Visitor) -> None:
    response = visitor.get("login?password=right")
    assert response.content == b"in"
    assert response.cookies["device"]["httponly"]
    for _ in range(13):
        assert visitor.get("login?password=guess").content == b"wrong"
    blocked = visitor.get("login?password=right")
    assert (blocked.status_code, blocked.cookies.output()) == (429, "")
    assert 1 <= int(blocked.headers["Retry-After"]) <= 60


def test_a_view_is_limited_and_says_so(visitor: Visitor) -> None:
    for left in (1, 0):
        response = visitor.get("limited")
        assert (response.status_code, response.content) == (200, b"limited")
        assert response.headers["RateLimit-Policy"] == '"default";q=2;w=60'
        assert response.headers["RateLimit"].startswith(f'"default";r={left};t=')
    blocked = visitor.get("limited")
    assert (blocked.status_code, blocked.headers["RateLimit"][:13]) == (429, '"default";r=0')
