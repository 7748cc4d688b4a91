"""The middleware's promises where Django is special: lazy and eager, bodies that stream, errors, and wrong uses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, SynchronousOnlyOperation
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, AsyncRequestFactory, Client, RequestFactory, override_settings

from coatcheck import OutsideRequest, SessionConflict, TooLate, UsageError, WrongFace
from coatcheck.django import SessionMiddleware, asessions, get_session, sessions
from coatcheck.django.engine import SessionStore
from coatcheck.stores.memory import MemoryStore
from tests.web.apps import DownStore
from tests.web.rig import Counted


def stored(**values: Any) -> str:
    """The Cookie header of a stored session."""
    session: Any = SessionStore()
    session.update(values)
    session.save()
    return f"sessionid={session.session_key}"


def through(view: Callable[[Any], Any], cookie: str = "") -> Any:
    """The response of this view to a request under WSGI."""
    return SessionMiddleware(view)(RequestFactory().get("/", headers={"Cookie": cookie} if cookie else None))


async def athrough(view: Callable[[Any], Any], cookie: str = "") -> Any:
    """The same under ASGI."""
    request = AsyncRequestFactory().get("/", headers={"Cookie": cookie} if cookie else None)
    middleware: Any = SessionMiddleware(view)
    return await middleware(request)


# ----------------------------------------------------------------------------------------------- how much it costs


@pytest.mark.parametrize("client", [Client, AsyncClient])
def test_commands_a_request(client: Any) -> None:
    store = Counted()
    with override_settings(COATCHECK={"STORE": store}):
        browser = client()
        get = async_to_sync(browser.get) if client is AsyncClient else browser.get
        a = "a" if client is AsyncClient else ""
        eager = ["load"] if client is AsyncClient else []
        told = [(get(f"/{a}scenario/{page}"), store.told())[1] for page in ("pub", "read", "set?v=1")]
        assert told == [[], [], ["create"]]
        told = [(get(f"/{a}scenario/{page}"), store.told())[1] for page in ("pub", "read", "set?v=2")]
        assert told == [eager, ["load"], ["load", "replace"]]


def test_lazily_under_asgi() -> None:
    store = Counted()
    with override_settings(COATCHECK={"STORE": store, "LAZY": True}):
        cookie = stored(n=1)
        store.told()

        async def looks(request: Any) -> HttpResponse:
            return HttpResponse(str(await request.session.aget("n")))

        async def looks_without_waiting(request: Any) -> HttpResponse:
            with pytest.raises(SynchronousOnlyOperation, match="await"):
                request.session["n"]
            return HttpResponse()

        async def does_not_look(request: Any) -> HttpResponse:
            return HttpResponse()

        async def looks_in_a_thread(request: Any) -> HttpResponse:
            return HttpResponse(str(await sync_to_async(lambda: request.session["n"])()))

        async def main() -> list[Any]:
            return [
                ((await athrough(view, cookie)).content, store.told())
                for view in (looks, looks_in_a_thread, looks_without_waiting, does_not_look)
            ]

        assert asyncio.run(main()) == [(b"1", ["load"]), (b"1", ["load"]), (b"", []), (b"", [])]


def test_an_async_view_under_wsgi_needs_no_store_of_its_own() -> None:
    client = Client()
    assert [client.get("/awaits").content for _ in range(2)] == [b"1", b"2"]
    assert "asessions" not in SessionStore()._home.__dict__


def test_a_store_that_only_waits_or_only_blocks() -> None:
    class Awaits(MemoryStore):
        def blocking(self) -> Any:
            raise WrongFace("this client awaits")

    class Blocks(MemoryStore):
        def awaiting(self) -> Any:
            raise WrongFace("this client blocks")

    with override_settings(COATCHECK={"STORE": Awaits()}):
        assert async_to_sync(AsyncClient().get)("/awaits").content == b"1"
        with pytest.raises(WrongFace):
            sessions()
        assert async_to_sync(asessions().count)() == 1
    with override_settings(COATCHECK={"STORE": Blocks()}):
        assert Client().get("/scenario/incr").content == b"1"
        with pytest.raises(WrongFace, match="blocks"):
            async_to_sync(AsyncClient().get)("/awaits")


# -------------------------------------------------------------------------------------------------------------- bodies


def test_what_a_streamed_body_changes_is_kept() -> None:
    cookie = stored(n=0)

    def view(request: Any) -> StreamingHttpResponse:
        request.session.get("n")

        def body() -> Iterator[str]:
            for _ in range(3):
                yield str(request.session.increment("n"))

        return StreamingHttpResponse(body())

    response = through(view, cookie)
    assert (b"".join(response.streaming_content), SessionStore(cookie[10:])["n"]) == (b"123", 3)


def test_what_an_async_body_changes_is_kept_also_if_the_client_leaves() -> None:
    cookie = stored(n=0)

    async def view(request: Any) -> StreamingHttpResponse:
        async def body() -> AsyncIterator[str]:
            while True:
                yield str(request.session.increment("n"))

        return StreamingHttpResponse(body())

    async def main() -> None:
        response = await athrough(view, cookie)
        pieces = response._iterator
        assert [await anext(pieces) for _ in range(2)] == [b"1", b"2"]
        await pieces.aclose()

    asyncio.run(main())
    assert SessionStore(cookie[10:])["n"] == 2


def test_of_a_body_that_fails_the_rest_is_not_kept() -> None:
    cookie = stored(n=0)

    def view(request: Any) -> StreamingHttpResponse:
        request.session.get("n")

        def body() -> Iterator[str]:
            request.session["n"] = 1
            yield "begun"
            raise ZeroDivisionError

        return StreamingHttpResponse(body())

    with pytest.raises(ZeroDivisionError):
        b"".join(through(view, cookie).streaming_content)
    assert SessionStore(cookie[10:])["n"] == 0


def test_a_body_that_looks_first_says_what_to_do() -> None:
    def view(request: Any) -> StreamingHttpResponse:
        return StreamingHttpResponse(str(request.session.get(key)) for key in "n")

    with pytest.raises(TooLate, match="before you stream"):
        b"".join(through(view, stored(n=0)).streaming_content)


def test_a_file_stays_a_file(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"content")

    def view(request: Any) -> FileResponse:
        request.session["n"] = 1
        return FileResponse(file.open("rb"))

    response = through(view)
    assert "sessionid" in response.cookies
    assert response.file_to_stream is not None
    assert b"".join(response.streaming_content) == b"content"
    response.close()


# -------------------------------------------------------------------------------------------------------- bad days


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize("page", ["scenario/read", "whoami", "members"])
def test_without_a_store_there_is_no_anonymous_page(client: Any, page: str, ada: Any) -> None:
    cookie = stored(n=1)
    with override_settings(COATCHECK={"STORE": DownStore()}):
        browser = client(raise_request_exception=False)
        browser.cookies["sessionid"] = cookie[10:]
        get = async_to_sync(browser.get) if client is AsyncClient else browser.get
        response = get(f"/{page}")
        assert (response.status_code, response["Retry-After"], response.cookies) == (503, "5", {})
        assert get("/scenario/pub").status_code == 200


def test_without_a_store_a_middleware_that_looks_is_answered_503_too(ada: Any) -> None:
    middleware = [*settings.MIDDLEWARE, "django.contrib.auth.middleware.LoginRequiredMiddleware"]
    cookie = stored(n=1)
    with override_settings(COATCHECK={"STORE": DownStore()}, MIDDLEWARE=middleware):
        client = Client(raise_request_exception=False)
        client.cookies["sessionid"] = cookie[10:]
        assert client.get("/members").status_code == 503


def test_without_a_store_a_message_makes_no_other_error(ada: Any) -> None:
    cookie = stored(n=1)
    with override_settings(COATCHECK={"STORE": DownStore()}):
        client = Client(raise_request_exception=False)
        client.cookies["sessionid"] = cookie[10:]
        assert [client.get(page).status_code for page in ("/leave", "/messages")] == [503, 503]


def test_a_conflict_is_409() -> None:
    with override_settings(COATCHECK={"STORE": "memory:", "ON_CONFLICT": "raise"}):
        cookie = stored(n=1)

        def view(request: Any) -> HttpResponse:
            request.session["n"] = 2
            other = SessionStore(cookie[10:])
            other["n"] = 3
            other.save()
            return HttpResponse()

        assert through(view, cookie).status_code == 409

        def saves(request: Any) -> HttpResponse:
            request.session["n"] = 4
            other = SessionStore(cookie[10:])
            other["n"] = 5
            other.save()
            with pytest.raises(SessionConflict):
                request.session.save()
            return HttpResponse()

        assert through(saves, cookie).status_code == 409


def test_a_store_that_goes_away_before_the_commit() -> None:
    store = Counted()
    with override_settings(COATCHECK={"STORE": store}):
        cookie = stored(n=1)

        def view(request: Any) -> HttpResponse:
            request.session["n"] = 2
            store.down = True
            return HttpResponse("done")

        response = through(view, cookie)
        assert (response.status_code, response.content.startswith(b"The session store")) == (503, True)


def test_of_an_error_only_the_logout_is_kept_and_an_earlier_save_is_told() -> None:
    cookie = stored(n=1)

    def leaves(request: Any) -> HttpResponse:
        request.session.flush()
        request.session["n"] = 2
        return HttpResponse(status=500)

    assert "Max-Age=0" in str(through(leaves, cookie).cookies["sessionid"])
    assert SessionStore(cookie[10:]).load() == {}
    cookie = stored(n=1)

    def rotates(request: Any) -> HttpResponse:
        request.session.cycle_key()
        request.session.save()
        request.session["n"] = 2
        return HttpResponse(status=500)

    made = through(rotates, cookie).cookies["sessionid"].value
    assert SessionStore(made).load() == {"n": 1}
    assert SessionStore(cookie[10:]).load() == {}


# ---------------------------------------------------------------------------------------------------------- wrong uses


def test_a_change_after_the_response_says_what_to_do() -> None:
    kept: list[Any] = []

    def view(request: Any) -> HttpResponse:
        request.session["n"] = 1
        kept.append(request.session)
        return HttpResponse()

    through(view)
    with pytest.raises(TooLate, match="before you return"):
        kept[0]["n"] = 2  # in a background task, say
    assert kept[0]["n"] == 1


def test_a_middleware_around_ours_may_still_look() -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse()

    request: Any = RequestFactory().get("/", headers={"Cookie": stored(n=1)})
    SessionMiddleware(view)(request)
    assert (request.session.get("n"), request.session.session_key) == (1, request.session.handle)
    with pytest.raises(TooLate):
        request.session["n"] = 2


def looks_too(get_response: Any) -> Any:
    """A middleware that can only be sync."""

    def middleware(request: Any) -> Any:
        request.session.increment("seen")
        return get_response(request)

    return middleware


def test_a_sync_middleware_under_asgi_makes_ours_one() -> None:
    with override_settings(MIDDLEWARE=[*settings.MIDDLEWARE, f"{__name__}.looks_too"]):
        client = AsyncClient()
        get = async_to_sync(client.get)
        assert [get(page).content for page in ("/awaits", "/ascenario/incr", "/scenario/incr")] == [
            b"1",
            b"2",
            b"3",
        ]
        assert async_to_sync(client.asession)()["seen"] == 3


def test_a_session_replaced_by_something_else_says_what_to_do() -> None:
    def view(request: Any) -> HttpResponse:
        request.session = {"n": 1}
        return HttpResponse()

    with pytest.raises(UsageError, match="change its keys"):
        through(view)

    def drops(request: Any) -> HttpResponse:
        request.session["n"] = 1
        del request.session
        return HttpResponse()

    assert through(drops).cookies == {}


def test_blocking_in_an_event_loop_says_what_to_await() -> None:
    async def main() -> None:
        with pytest.raises(SynchronousOnlyOperation, match="asave"):
            SessionStore().save()
        for act in (SessionStore().create, SessionStore().delete, lambda: SessionStore().exists("x" * 24)):
            with pytest.raises(SynchronousOnlyOperation):
                act()

    asyncio.run(main())


def test_sync_access_in_an_async_view_works_since_the_session_is_there() -> None:
    async def view(request: Any) -> HttpResponse:
        request.session["n"] = request.session.get("n", 0) + 1
        request.session.cycle_key()
        return HttpResponse(str(request.session["n"]))

    cookie = stored(n=1)
    response = asyncio.run(athrough(view, cookie))
    assert response.content == b"2"
    assert SessionStore(response.cookies["sessionid"].value)["n"] == 2


def test_our_own_verbs_awaited() -> None:
    async def view(request: Any) -> HttpResponse:
        session = request.session
        session.login("ada")
        session["state"] = "once"
        await session.asave()
        assert await session.atake("state") == "once"
        assert [device.handle for device in await session.adevices()] == [session.session_key]
        assert await session.aend_others() == 0
        assert await session.aend_device("x" * 24) is False
        await session.areload()
        assert await session.aend_all() == 1
        return HttpResponse()

    async def ends(request: Any) -> HttpResponse:
        await request.session.adestroy()
        return HttpResponse()

    asyncio.run(athrough(view))
    assert sessions().of("ada").list() == []
    cookie = stored(n=1)
    assert "Max-Age=0" in str(asyncio.run(athrough(ends, cookie)).cookies["sessionid"])


def test_a_handle_ends_a_session_and_opens_none() -> None:
    session: Any = SessionStore(stored(n=1)[10:])
    handle, key = session.handle, session.session_key
    assert SessionStore(handle).load() == {}
    assert SessionStore(handle).exists(handle) is True
    named = SessionStore(handle)
    assert named.session_key == handle
    named.flush()
    assert SessionStore(key).load() == {"n": 1}
    SessionStore(handle).delete()
    assert SessionStore(key).load() == {}


def test_a_key_that_was_promised_is_kept() -> None:
    told = []

    def view(request: Any) -> HttpResponse:
        told.append(request.session.session_key)
        request.session.cycle_key()
        told.append(request.session.session_key)
        return HttpResponse()

    response = through(view)
    opened: Any = SessionStore(response.cookies["sessionid"].value)
    assert told == [None, opened.handle]


def test_the_session_of_a_request_has_its_type_and_is_missed_by_name() -> None:
    def view(request: Any) -> HttpResponse:
        return HttpResponse(str(get_session(request).increment("n")))

    assert through(view).content == b"1"
    with pytest.raises(OutsideRequest, match="MIDDLEWARE"):
        get_session(RequestFactory().get("/"))


def test_without_our_middleware_the_application_is_named() -> None:
    with override_settings(COATCHECK=None), pytest.raises(ImproperlyConfigured, match="COATCHECK is missing"):
        SessionStore()
