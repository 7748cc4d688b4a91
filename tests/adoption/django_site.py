"""A Django of its own, with the session engine it is told: `django_site.py ENGINE FOLDER REDIS STEP…`. Answers a JSON list.

login          log in through Django's own client, and answer the cookie
expires N      the same, with `session.set_expiry(N)`
see COOKIE     whom Django knows by it
adopt FACE     log in, and let coatcheck go on with it, inside this Django
password FACE  the same, after the password was changed;  gone FACE: after the user was deleted
"""

import json
import sys
from pathlib import Path
from typing import Any

ENGINE, FOLDER, REDIS = sys.argv[1:4]
MODULE = f"django.contrib.sessions.backends.{ENGINE}"


def set_up() -> None:
    """Settings as in a small project of three years ago."""
    import django
    from django.conf import settings

    from tests.adoption import olds

    settings.configure(
        SECRET_KEY=olds.SECRET,
        ALLOWED_HOSTS=["*"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/django.db"}},
        CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": REDIS}},
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        SESSION_ENGINE=MODULE,
        PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"],
        ROOT_URLCONF=__name__,
        USE_TZ=True,
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    if not Path(f"{FOLDER}/django.db").exists():
        from django.core.management import call_command

        call_command("migrate", verbosity=0)


urlpatterns: list[Any] = []


def somebody(name: str = "ada") -> Any:
    from django.contrib.auth import get_user_model

    users: Any = get_user_model().objects
    return users.filter(username=name).first() or users.create_user(name, password="pw")


def log_in(expiry: int | None = None, name: str = "ada") -> str:
    """The cookie after a login and a page that fills the cart."""
    from django.test import Client

    client = Client()
    client.force_login(somebody(name))
    session = client.session
    session["cart"] = ["a", {"n": 1}]
    if expiry is not None:
        session.set_expiry(expiry)
    session.save()
    if ENGINE == "signed_cookies":
        return str(session.session_key)
    return client.cookies["sessionid"].value


def see(cookie: str) -> Any:
    """Whom Django knows by this cookie."""
    from importlib import import_module

    return import_module(MODULE).SessionStore(cookie).load().get("_auth_user_id")


def site(face: str) -> Any:
    from coatcheck.adoption import DjangoEngine
    from tests.adoption.rig import Site

    # As an adapter for Django does it: its keys stand for the login.
    return Site(face, "memory:", DjangoEngine(engine=MODULE), identity=Keys())


class Keys:
    """Django's keys, which are never stored."""

    keys = frozenset({"_auth_user_id", "_auth_user_backend", "_auth_user_hash"})

    def read(self, session: Any, key: str) -> Any:
        from coatcheck import MISSING

        return MISSING

    def write(self, session: Any, key: str, value: Any) -> None: ...

    def remove(self, session: Any, key: str) -> None: ...


def adopt(face: str) -> Any:
    old = log_in()
    place = site(face)
    browser = place.browser(sessionid=old)
    first, again = browser.get(), browser.get()
    place.time.now += 11
    later = place.browser(sessionid=old).get()
    place.close()
    return {
        "first": _short(first),
        "again": _short(again),
        "old cookie later": later,
        "in the old engine": see(old),
        "events": [name for name in place.ears.heard() if name.startswith(("session.a", "adoption"))],
    }


def _short(page: Any) -> Any:
    data = page["data"]
    return {
        "user": page["user"],
        "cart": data["cart"],
        "stands_for_login": [key for key in data if key.startswith("_auth")],
    }


def password(face: str) -> Any:
    old = log_in(name=f"bob-{face}")
    user = somebody(f"bob-{face}")
    user.set_password("another")
    user.save()
    return _seen(face, old)


def gone(face: str) -> Any:
    old = log_in(name="eve")
    somebody("eve").delete()
    return _seen(face, old)


def _seen(face: str, old: str) -> Any:
    place = site(face)
    page = place.browser(sessionid=old).get()
    place.close()
    return [page, place.ears.heard()]


def main() -> None:
    set_up()
    answers = []
    for step in sys.argv[4:]:
        verb, _, rest = step.partition(" ")
        if verb == "login":
            answers.append(log_in())
        elif verb == "expires":
            answers.append(log_in(int(rest)))
        else:
            answers.append({"see": see, "adopt": adopt, "password": password, "gone": gone}[verb](rest))
    print(json.dumps(answers))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    main()
