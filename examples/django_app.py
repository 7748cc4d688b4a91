"""Django, in one file: log in, count, see where you are logged in, end one of these logins, log out.

SESSION_SECRET=$(coatcheck secret) gunicorn --threads 4 examples.django_app:wsgi
"""

import os

import django
from django.conf import settings
from django.contrib.auth import authenticate, get_user_model, login, logout
from django.contrib.auth.decorators import login_required
from django.core.asgi import get_asgi_application
from django.core.management import call_command
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST

from examples import pages

settings.configure(
    SECRET_KEY=os.environ["SESSION_SECRET"],
    ALLOWED_HOSTS=["localhost", "127.0.0.1"],
    ROOT_URLCONF=__name__,
    LOGIN_URL="/",
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": "people.sqlite3"}},
    INSTALLED_APPS=["django.contrib.auth", "django.contrib.contenttypes", "coatcheck.django"],
    MIDDLEWARE=[
        "coatcheck.django.SessionMiddleware",
        "django.middleware.csrf.CsrfViewMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
    ],
    SESSION_ENGINE="coatcheck.django.engine",
    COATCHECK={"STORE": os.environ.get("SESSION_STORE", "sqlite:///sessions.db")},
)
django.setup()


def hidden(request: HttpRequest) -> str:
    return f'<input type="hidden" name="csrfmiddlewaretoken" value="{get_token(request)}">'


def see_other(path: str) -> HttpResponse:
    return HttpResponse(status=303, headers={"Location": path})


@never_cache
def home(request: HttpRequest) -> HttpResponse:
    user, count = request.user.get_username() or None, request.session.get("count", 0)
    return HttpResponse(pages.home(user, count, hidden=hidden(request)))


@require_POST
def log_in(request: HttpRequest) -> HttpResponse:
    user = authenticate(request, username=request.POST["user"], password=request.POST["password"])
    if user is None:
        return HttpResponse(pages.WRONG, status=401)
    login(request, user)
    return see_other("/")


@require_POST
def count(request: HttpRequest) -> HttpResponse:
    request.session.increment("count")
    return see_other("/")


@never_cache
@login_required
def devices(request: HttpRequest) -> HttpResponse:
    session = request.session
    return HttpResponse(pages.devices(session.devices(), session.handle, hidden=hidden(request)))


@require_POST
@login_required
def end_device(request: HttpRequest) -> HttpResponse:
    request.session.end_device(request.POST["handle"])
    return see_other("/devices")


@require_POST
def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return see_other("/")


urlpatterns = [
    path("", home),
    path("login", log_in),
    path("count", count),
    path("devices", devices),
    path("devices/end", end_device),
    path("logout", log_out),
]

call_command("migrate", verbosity=0)
for name, password in pages.PASSWORDS.items():
    if not get_user_model().objects.filter(username=name).exists():
        get_user_model().objects.create_user(name, password=password.decode())

wsgi, asgi = get_wsgi_application(), get_asgi_application()
