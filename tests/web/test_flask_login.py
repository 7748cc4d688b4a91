"""Flask-Login, unchanged, over the one login that all frameworks share.

Flask-Login's own tests (tests/test_login.py of 0.6.3) were run with our sessions in place of Flask's: 113 of 114 pass. The
one that does not, `test_session_protection_modes`, logs in by writing `_user_id` without the `_id` of a client, and expects that
such a login is not fresh. Here it is: it may have been made in another framework, which knows of no `_id` either (below).
"""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from flask import Flask, flash, get_flashed_messages, session
from flask.testing import FlaskClient
from flask_login import (
    FlaskLoginClient,
    LoginManager,
    UserMixin,
    confirm_login,
    current_user,
    fresh_login_required,
    login_fresh,
    login_required,
    login_user,
    logout_user,
)

from coatcheck import UsageError, UserKey
from coatcheck.fastapi import CurrentUser, RecentLogin, SessionDep, SessionMiddleware
from coatcheck.flask import CoatCheck, FlaskLogin
from tests.web.apps import SECRET
from tests.web.rig import Counted, Time

AGENT = {"User-Agent": "Elsewhere/1.0"}


class User(UserMixin):  # type: ignore[misc]  # has no types
    """A user whose id in the database is a number."""

    def __init__(self, number: int) -> None:
        self.id = number


class Shop:
    """A Flask application with Flask-Login; `store` may be another application's too."""

    def __init__(self, *, protection: str | None = "basic", **options: Any) -> None:
        self.store = options.setdefault("store", Counted())
        self.app = Flask("shop")
        self.app.config["SECRET_KEY"] = SECRET
        self.users: dict[str, User] = {str(number): User(number) for number in (7, 8)}
        CoatCheck(self.app, **options)
        self.manager = LoginManager(self.app)
        self.manager.session_protection = protection
        self.manager.user_loader(self.users.get)
        for view in (login, logout, remember, stale, confirm, me, secret, messages):
            self.app.add_url_rule(f"/{view.__name__}", view_func=view)
        self.app.add_url_rule("/login/<number>", view_func=login)

    def visitor(self) -> FlaskClient:
        return self.app.test_client()


def login(number: str = "7") -> str:
    session["cart"] = session.get("cart", 0) + 1
    flash("before")
    assert login_user(User(int(number)))
    flash("after")
    return "welcome"


def logout() -> str:
    flash("bye")
    logout_user()
    flash("gone")
    return "bye"


def clear() -> str:
    session.clear()
    return "cleared"


def remember() -> str:
    assert login_user(User(7), remember=True)
    return "welcome"


def stale() -> str:
    assert login_user(User(7), fresh=False)
    return "welcome"


def confirm() -> str:
    confirm_login()
    return "confirmed"


@login_required
def me() -> dict[str, Any]:
    return {"user": current_user.get_id(), "fresh": login_fresh(), "cart": session.get("cart")}


@fresh_login_required
def secret() -> str:
    return "secret"


def messages() -> list[Any]:
    return list(get_flashed_messages())


def cookie_of(client: FlaskClient) -> str:
    cookie = client.get_cookie("session")
    return "" if cookie is None else cookie.value


def holder_of(shop: Shop, cookie: str) -> FlaskClient:
    """Somebody else with the same cookie."""
    client = shop.visitor()
    client.set_cookie("session", cookie)
    return client


# ------------------------------------------------------------------------------------------------------ login, logout


def test_a_login_rotates_the_id_and_the_planted_cookie_opens_nothing() -> None:
    shop = Shop()
    visitor = shop.visitor()
    with visitor.session_transaction() as transaction:
        transaction["cart"] = 1
    planted = cookie_of(visitor)
    visitor.get("/login")
    assert cookie_of(visitor) not in ("", planted)
    assert visitor.get("/me").json == {"user": "7", "fresh": True, "cart": 2}
    assert holder_of(shop, planted).get("/me").status_code == 401


def test_every_login_is_one_also_of_the_same_user() -> None:
    """Whoever types the password again proves anew who they are."""
    time = Time()
    shop = Shop(clock=time.clock)
    visitor = shop.visitor()
    visitor.get("/login")
    first = cookie_of(visitor)
    time.now += 3_600
    visitor.get("/login")
    assert cookie_of(visitor) != first
    assert holder_of(shop, first).get("/me").status_code == 401
    with visitor.session_transaction() as transaction:
        assert transaction.authenticated_at.timestamp() == time.now  # type: ignore[attr-defined]  # ours has more


def test_a_logout_ends_the_session_on_the_server_and_keeps_the_rest_in_another() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/login")
    stolen = cookie_of(visitor)
    visitor.get("/logout")
    assert visitor.get("/me").status_code == 401
    assert holder_of(shop, stolen).get("/me").status_code == 401
    assert visitor.get("/messages").json == ["before", "after", "bye", "gone"]
    with visitor.session_transaction() as transaction:
        assert (transaction["cart"], transaction.user_id) == (1, None)  # type: ignore[attr-defined]


def test_clear_logs_out_too() -> None:
    shop = Shop()
    shop.app.add_url_rule("/clear", view_func=clear)
    visitor = shop.visitor()
    visitor.get("/login")
    stolen = cookie_of(visitor)
    visitor.get("/clear")
    assert [who.get("/me").status_code for who in (visitor, holder_of(shop, stolen))] == [401, 401]


def test_another_users_login_begins_a_session_of_its_own() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/login/7")
    with visitor.session_transaction() as transaction:
        transaction["secret_of_7"] = True
    old = cookie_of(visitor)
    visitor.get("/login/8")
    assert visitor.get("/me").json == {"user": "8", "fresh": True, "cart": 2}
    with visitor.session_transaction() as transaction:
        assert "secret_of_7" not in transaction
    assert holder_of(shop, old).get("/me").status_code == 401


def test_a_user_who_is_gone_is_nobody() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/login")
    del shop.users["7"]
    assert visitor.get("/me").status_code == 401


def test_the_keys_of_the_login_are_not_stored_among_the_data() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/login")
    with visitor.session_transaction() as transaction:
        assert {"_user_id", "_fresh", "_id", "cart", "_flashes"} == set(transaction)
        transaction.pop("_user_id")
        assert set(transaction) == {"cart", "_flashes"}


def test_nobody_is_no_user() -> None:
    visitor = Shop().visitor()
    visitor.get("/login")
    with visitor.session_transaction() as transaction:
        transaction["_user_id"] = None
    assert visitor.get("/me").status_code == 401
    with visitor.session_transaction() as transaction:
        transaction["_user_id"] = None
        with pytest.raises(UsageError):
            transaction["_user_id"] = ""


# ---------------------------------------------------------------------------------------------------- is it fresh?


def test_a_login_that_is_said_not_to_be_fresh_is_no_proof() -> None:
    visitor = Shop().visitor()
    visitor.get("/stale")
    assert visitor.get("/me").json == {"user": "7", "fresh": False, "cart": None}
    assert visitor.get("/secret").status_code == 401
    with visitor.session_transaction() as transaction:
        assert transaction.authenticated_at is None  # type: ignore[attr-defined]


def test_to_confirm_a_login_is_a_login() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/stale")
    before = cookie_of(visitor)
    visitor.get("/confirm")
    assert (visitor.get("/secret").text, cookie_of(visitor) != before) == ("secret", True)
    assert holder_of(shop, before).get("/me").status_code == 401


def test_a_refresh_view_is_asked_for() -> None:
    shop = Shop()
    shop.manager.refresh_view = "login"
    visitor = shop.visitor()
    visitor.get("/stale")
    seen = visitor.get("/secret")
    assert (seen.status_code, seen.location) == (302, "/login?next=%2Fsecret")


def test_the_remember_me_cookie_logs_in_and_proves_nothing() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/remember")
    assert visitor.get_cookie("remember_token") is not None
    visitor.delete_cookie("session")
    assert visitor.get("/me").json == {"user": "7", "fresh": False, "cart": None}
    assert visitor.get("/secret").status_code == 401
    with visitor.session_transaction() as transaction:
        assert transaction.authenticated_at is None  # type: ignore[attr-defined]
        (device,) = transaction.devices()[-1:]  # type: ignore[attr-defined]
        assert device.method in ("pwd", "remembered")
    visitor.get("/logout")
    assert visitor.get_cookie("remember_token") is None
    assert visitor.get("/me").status_code == 401


def test_a_late_request_with_the_remember_me_cookie_does_not_undo_a_logout() -> None:
    shop = Shop()
    visitor = shop.visitor()
    visitor.get("/remember")
    late = holder_of(shop, cookie_of(visitor))
    token = visitor.get_cookie("remember_token")
    assert token is not None
    late.set_cookie("remember_token", token.value)
    visitor.get("/logout")
    shop.store.told()
    seen = late.get("/me")
    assert (seen.status_code, seen.headers.getlist("Set-Cookie")) == (
        200,
        [],
    )  # it was logged in when it was sent
    assert "create" not in shop.store.told()


# ----------------------------------------------------------------------------------------------- session protection


def test_basic_protection_takes_a_login_from_another_client_for_stale() -> None:
    visitor = Shop().visitor()
    visitor.get("/login")
    assert visitor.get("/me", headers=AGENT).json == {"user": "7", "fresh": False, "cart": 1}
    assert visitor.get("/secret").status_code == 401
    visitor.get("/login")
    assert visitor.get("/secret").text == "secret"


@pytest.mark.parametrize("change", ["agent", "address"])
def test_strong_protection_logs_out_a_client_that_changed(change: str) -> None:
    shop = Shop(protection="strong")
    visitor = shop.visitor()
    visitor.get("/login")
    stolen = holder_of(shop, cookie_of(visitor))
    asking: dict[str, Any] = (
        {"headers": AGENT} if change == "agent" else {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
    )
    seen = stolen.get("/me", **asking)
    assert seen.status_code == 401
    assert visitor.get("/me").status_code == 401  # ended on the server, for everybody


def test_strong_protection_leaves_the_same_client_alone() -> None:
    visitor = Shop(protection="strong").visitor()
    visitor.get("/login")
    assert [visitor.get("/me").status_code for _ in range(2)] == [200, 200]


# ----------------------------------------------------------------------------------------------- test clients, options


def test_test_clients_log_in_as_they_are_used_to() -> None:
    shop = Shop()
    with shop.visitor() as visitor:
        with visitor.session_transaction() as transaction:
            transaction["_user_id"], transaction["_fresh"] = "7", True
        assert visitor.get("/secret").text == "secret"
    visitor = shop.visitor()
    with visitor.session_transaction() as transaction:
        transaction.login("8")  # type: ignore[attr-defined]
    assert visitor.get("/me").json == {"user": "8", "fresh": True, "cart": None}
    shop.app.test_client_class = FlaskLoginClient
    assert shop.app.test_client(user=User(7)).get("/secret").text == "secret"
    assert shop.app.test_client(user=User(7), fresh_login=False).get("/secret").status_code == 401


def test_ids_may_be_mapped() -> None:
    identity = FlaskLogin(to_user_id=lambda own: f"user-{own}", from_user_id=lambda text: text[5:])
    visitor = Shop(identity=identity, protection="strong").visitor()
    visitor.get("/login")
    assert visitor.get("/me").json == {"user": "7", "fresh": True, "cart": 1}
    with visitor.session_transaction() as transaction:
        assert transaction.user_id == "user-7"  # type: ignore[attr-defined]


@pytest.mark.parametrize("identity", [None, UserKey("user")])
def test_another_identity_or_none_leaves_the_keys_alone(identity: Any) -> None:
    visitor = Shop(identity=identity).visitor()
    visitor.get("/login")
    with visitor.session_transaction() as transaction:
        assert (transaction["_user_id"], transaction.user_id) == ("7", None)  # type: ignore[attr-defined]


def test_an_anonymous_visitor_pays_nothing_for_it() -> None:
    shop = Shop()
    visitor = shop.visitor()
    assert visitor.get("/me").status_code == 401
    assert shop.store.told() == []


# ------------------------------------------------------------------------------------------------- across frameworks


def api(store: Any, clock: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(SessionMiddleware, store=store, secret=SECRET, clock=clock)

    @app.get("/me")
    async def me(user: CurrentUser) -> str:
        return user

    @app.post("/login")
    async def login(session: SessionDep) -> None:
        session.login(7)

    @app.post("/logout")
    async def logout(session: SessionDep) -> None:
        session.logout()

    @app.get("/secret", dependencies=[RecentLogin("10m")])
    async def secret() -> str:
        return "secret"

    return app


class Both:
    """A visitor of a Flask and a FastAPI application that share their sessions."""

    def __init__(self, **options: Any) -> None:
        self.time = Time()
        self.shop = Shop(clock=self.time.clock, **options)
        self.flask = self.shop.visitor()
        self._api = api(self.shop.store, self.time.clock)

    def __getattr__(self, name: str) -> Callable[[str], Any]:
        """`both.get(path)` of the FastAPI application, with the cookie the browser holds."""

        def ask(path: str) -> Any:
            client = TestClient(self._api)
            if held := cookie_of(self.flask):
                client.cookies.set("session", held)
            seen = client.request(name, path)
            if "session" in seen.cookies:
                self.flask.set_cookie("session", seen.cookies["session"])
            return seen

        return ask


@pytest.mark.parametrize("protection", ["basic", "strong", None])
def test_a_login_of_fastapi_is_one_here_fresh_and_not_logged_out(protection: str | None) -> None:
    both = Both(protection=protection)
    both.post("/login")
    assert both.flask.get("/me").json == {"user": "7", "fresh": True, "cart": None}
    assert both.flask.get("/secret").text == "secret"
    both.flask.get("/logout")
    assert both.get("/me").status_code == 401


def test_a_login_here_is_one_in_fastapi_and_its_logout_is_one_here() -> None:
    both = Both()
    both.flask.get("/login")
    assert (both.get("/me").json(), both.get("/secret").json()) == ("7", "secret")
    both.post("/logout")
    assert both.flask.get("/me").status_code == 401


def test_what_was_only_remembered_here_is_no_recent_login_there() -> None:
    both = Both()
    both.flask.get("/stale")
    assert (both.get("/me").status_code, both.get("/secret").status_code) == (200, 403)
    both.flask.get("/confirm")
    assert both.get("/secret").status_code == 200


def test_a_login_elsewhere_leaves_behind_what_was_said_of_the_one_before() -> None:
    """From another client than the one before, and no longer stale."""
    both = Both(protection="strong")
    both.flask.get("/login", headers=AGENT)
    both.post("/login")
    assert both.flask.get("/me").json == {"user": "7", "fresh": True, "cart": 1}
    basic = Both()
    basic.flask.get("/stale")
    basic.post("/login")
    assert basic.flask.get("/secret").text == "secret"


@pytest.mark.parametrize("managed", [False, True])
def test_only_an_application_with_a_login_manager_sees_its_keys(managed: bool) -> None:
    """One that does not know Flask-Login finds in its session what it put there, and nothing else."""
    app = Flask(__name__)
    CoatCheck(app, secret=SECRET)
    if managed:
        LoginManager(app)  # after its sessions, as many do

    @app.get("/")
    def page() -> dict[str, Any]:
        session.login("ada")  # type: ignore[attr-defined]  # Flask declares its own kind
        session["cart"] = [1]
        return dict(session)

    keys = {"_user_id", "_fresh", "_id"} if managed else set()
    assert set(app.test_client().get("/").json or ()) == {"cart", *keys}
