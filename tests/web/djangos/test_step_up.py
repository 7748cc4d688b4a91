"""What a sensitive view asks of a login, as decorators of Django views, sync and async."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory

from coatcheck import ConfigurationError
from coatcheck.django import SessionMiddleware, recent_login, require_method


@recent_login("10m")
def recent(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


@require_method("otp", "hwk")
async def strong(request: HttpRequest) -> HttpResponse:
    return HttpResponse("done")


def log_in(request: Any) -> HttpResponse:
    request.session.login("1")
    return HttpResponse("in")


def prove(request: Any) -> HttpResponse:
    request.session.reauthenticate(method="otp")
    return HttpResponse("in")


class Browser:
    """Requests of one visitor, through our middleware."""

    def __init__(self) -> None:
        self.cookies: dict[str, str] = {}

    def status(self, view: Callable[..., Any]) -> int:
        request = RequestFactory(headers={"host": "testserver"}).post("/", secure=True)
        request.COOKIES.update(self.cookies)
        request.META["HTTP_COOKIE"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())

        def answer(request: HttpRequest) -> Any:
            if asyncio.iscoroutinefunction(view):
                return asyncio.run(view(request))
            return view(request)

        response: Any = SessionMiddleware(answer)(request)
        self.cookies.update({name: morsel.value for name, morsel in response.cookies.items()})
        return int(response.status_code)


def test_a_sensitive_view_asks_for_a_proof() -> None:
    browser = Browser()
    assert (browser.status(recent), browser.status(strong)) == (401, 401)
    assert browser.status(log_in) == 200
    assert (browser.status(recent), browser.status(strong)) == (200, 403)
    assert browser.status(prove) == 200
    assert (browser.status(recent), browser.status(strong)) == (200, 200)


def test_a_guard_that_cannot_work_is_refused_at_start_up() -> None:
    with pytest.raises(ConfigurationError, match="RecentLogin"):
        recent_login(600)  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ConfigurationError, match="one or several names"):
        require_method()
