"""CSRF protection in the place of Django's own: its tags, decorators, admin and failure view go on as they did."""

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.template import engines
from django.test import Client, override_settings
from django.urls import path
from django.views.decorators.csrf import csrf_exempt, csrf_protect, ensure_csrf_cookie

from coatcheck.django import CsrfMiddleware, csrf_token
from tests.web.djangos import urls
from tests.web.djangos.settings import MIDDLEWARE

APP, EVIL = "https://shop.example", "https://evil.example"
THEIRS, OURS = "django.middleware.csrf.CsrfViewMiddleware", "coatcheck.django.CsrfMiddleware"
PROTECTED = [OURS if name == THEIRS else name for name in MIDDLEWARE]


def page(request: HttpRequest) -> HttpResponse:
    return HttpResponse(engines["django"].from_string("<form>{% csrf_token %}</form>").render({}, request))


def act(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.POST)))


async def aact(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.POST)))


def script(request: HttpRequest) -> HttpResponse:
    return HttpResponse(csrf_token(request))


def login_and_page(request: HttpRequest) -> HttpResponse:
    from django.contrib.auth import authenticate, login

    user = authenticate(request, username="ada", password="correct horse")
    assert user is not None
    login(request, user)
    return HttpResponse(get_token(request))


urlpatterns = [
    *urls.urlpatterns,
    path("page", page),
    path("script", script),
    path("act", act),
    path("aact", aact),
    path("hook", csrf_exempt(act)),
    path("protected", csrf_protect(act)),
    path("protected-page", csrf_protect(page)),
    path("cookie-page", ensure_csrf_cookie(page)),
    path("login-and-page", login_and_page),
]


@pytest.fixture(autouse=True)
def protection() -> Any:
    with override_settings(MIDDLEWARE=PROTECTED, ROOT_URLCONF=__name__, CSRF_TRUSTED_ORIGINS=[APP]):
        yield


def client() -> Client:
    return Client(enforce_csrf_checks=True)


def token_in(response: Any) -> str:
    return str(response.content.decode().partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0])


@pytest.mark.parametrize("target", ["/act", "/aact", "/protected"])
def test_what_another_site_sends_is_refused(target: str) -> None:
    visitor = client()
    for good in ({"Sec-Fetch-Site": "same-origin"}, {"Origin": APP}, {"Referer": f"{APP}/page"}):
        seen = visitor.post(target, {"a": "b"}, headers=good)
        assert (seen.status_code, seen.content) == (200, b"1")
        assert "sec-fetch-site, origin" in seen["Vary"].lower()
    for bad in (
        {},
        {"Origin": EVIL},
        {"Sec-Fetch-Site": "cross-site"},
        {"Origin": "null"},
        {"Origin": "https://testserver"},
    ):
        seen = visitor.post(target, {"a": "b"}, headers=bad)
        assert (seen.status_code, seen["Cache-Control"]) == (403, "no-store")
        assert b"CSRF verification failed" in seen.content  # the page of CSRF_FAILURE_VIEW
    assert visitor.post("/hook", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 200
    assert (
        Client().post(target).status_code == 200
    )  # Django's test client, as long as it is not told to enforce


def test_the_tag_and_the_header_carry_the_sessions_token(ada: Any) -> None:
    visitor = client()
    seen = visitor.get("/page")
    before = token_in(seen)
    assert (len(before), seen["Cache-Control"], "csrftoken" in visitor.cookies) == (64, "no-store", False)
    assert token_in(visitor.get("/page")) != before
    assert visitor.post("/act", {"csrfmiddlewaretoken": before}).status_code == 200
    assert (
        visitor.post("/act", headers={"X-CSRFToken": visitor.get("/script").content.decode()}).status_code
        == 200
    )
    for bad in ("", "x", "A" * 32, "A" * 64, before[::-1], before[:-1], before + "A", "é" * 64):
        assert visitor.post("/act", {"csrfmiddlewaretoken": bad}).status_code == 403
    # Django's own kind of proof, a pair of cookie and field that anybody can make, is none.
    visitor.cookies["csrftoken"] = "A" * 32
    assert visitor.post("/act", {"csrfmiddlewaretoken": "A" * 32}).status_code == 403
    assert visitor.post("/act", {"csrfmiddlewaretoken": "A" * 64}).status_code == 403

    assert visitor.post("/in/ada", {"csrfmiddlewaretoken": before}).status_code == 200
    assert visitor.post("/act", {"csrfmiddlewaretoken": before}).status_code == 403
    after = token_in(visitor.get("/page"))
    assert visitor.post("/act", {"csrfmiddlewaretoken": after}).status_code == 200
    assert client().post("/act", {"csrfmiddlewaretoken": after}).status_code == 403


def test_a_page_that_answers_a_login_has_the_logins_token(ada: Any) -> None:
    visitor = client()
    token = visitor.post("/login-and-page", headers={"Sec-Fetch-Site": "same-origin"}).content.decode()
    assert visitor.post("/act", {"csrfmiddlewaretoken": token}).status_code == 200


def test_an_untouched_page_stays_untouched() -> None:
    seen = client().get("/hook")
    assert [seen.has_header(name) for name in ("Vary", "Cache-Control", "Set-Cookie")] == [False] * 3
    assert seen.cookies == {}


@pytest.mark.parametrize("where", ["/protected-page", "/cookie-page"])
def test_the_decorators_find_the_same_secret(where: str) -> None:
    visitor = client()
    token = token_in(visitor.get(where))
    assert visitor.post("/act", {"csrfmiddlewaretoken": token}).status_code == 200
    assert visitor.post("/protected", {"csrfmiddlewaretoken": token}).status_code == 200


def test_the_admin_in_an_old_browser(ada: Any) -> None:
    ada.is_staff = ada.is_superuser = True
    ada.save()
    visitor = client()
    form = {"username": "ada", "password": "correct horse", "next": "/admin/"}
    assert visitor.post("/admin/login/", form).status_code == 403
    form["csrfmiddlewaretoken"] = token_in(visitor.get("/admin/login/?next=/admin/"))
    assert visitor.post("/admin/login/", form).status_code == 302
    token = token_in(visitor.get("/admin/"))
    assert visitor.post("/admin/logout/").status_code == 403
    assert visitor.post("/admin/logout/", {"csrfmiddlewaretoken": token}).status_code == 200


def respond(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"MIDDLEWARE": [OURS, *(name for name in MIDDLEWARE if name != THEIRS)]},
            "put 'coatcheck.django.SessionMiddleware' before",
        ),
        (
            {"MIDDLEWARE": [*MIDDLEWARE, OURS]},
            "two CSRF middlewares are installed: remove 'django.middleware.csrf",
        ),
        (
            {"CSRF_TRUSTED_ORIGINS": ["https://*.shop.example"]},
            "CSRF_TRUSTED_ORIGINS: .* a wildcard trusts hosts",
        ),
    ],
    ids=["order", "two", "origins"],
)
def test_wrong_settings_keep_the_project_from_starting(changes: dict[str, Any], says: str) -> None:
    with override_settings(**changes), pytest.raises(ImproperlyConfigured, match=says):
        CsrfMiddleware(respond)


def test_the_inventory_lists_exempt_views() -> None:
    from coatcheck.tools.exempt import exemptions

    assert exemptions(object()) == ["/hook"]
    with override_settings(MIDDLEWARE=MIDDLEWARE):
        assert exemptions(object()) is None
