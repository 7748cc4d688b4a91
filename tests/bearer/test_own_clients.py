"""What a framework's own client sees, where the framework has words of its own: OpenAPI, `requires`, dependencies, tests."""

import asyncio
from collections.abc import Iterator
from typing import Annotated, Any

import msgspec
import pytest
from fastapi import Depends, FastAPI, Response, Security
from fastapi.testclient import TestClient
from flask import Flask
from starlette.applications import Starlette
from starlette.authentication import requires
from starlette.middleware import Middleware
from starlette.middleware.authentication import AuthenticationMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient as StarletteClient

from coatcheck import AsyncSessionManager, ConfigurationError, OutsideRequest, SessionManager, WrongFace
from coatcheck.bearer import TokenCookies
from coatcheck.bearer.asgi import TokenEndpoints, listening
from coatcheck.fastapi import Bearer
from coatcheck.flask import Bearer as FlaskBearer
from coatcheck.starlette import Bearer as StarletteBearer
from coatcheck.starlette import BearerBackend
from coatcheck.stores.memory import MemoryStore
from coatcheck.tokens import AccessClaims, AsyncTokens, Key, KeyRing, Tokens
from tests.bearer.rig import ISSUER


class Claims(AccessClaims, frozen=True, kw_only=True):
    roles: list[str] = msgspec.field(default_factory=list)


class Both:
    """Tokens of one store, for the application and for the test."""

    def __init__(self) -> None:
        store = MemoryStore()
        about: dict[str, Any] = {
            "keys": KeyRing([Key.generate("ES256")]),
            "issuer": ISSUER,
            "audience": "api",
        }
        self.sessions = AsyncSessionManager(store)
        self.app = AsyncTokens(self.sessions, schema=Claims, **about)
        self.sync = Tokens(SessionManager(store), schema=Claims, **about)

    def header(self, scope: str = "", **terms: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.sync.issue('ada', scope=scope, **terms).access_token}"}


@pytest.fixture
def both() -> Both:
    return Both()


# --------------------------------------------------------------------------------------------------------- FastAPI


@pytest.fixture
def fastapi(both: Both) -> Iterator[TestClient]:
    bearer = Bearer(both.app, cookies=TokenCookies(path="/auth"))
    app = FastAPI(lifespan=listening(both.app))

    @app.get("/roles")
    async def roles(claims: Annotated[Claims, Security(bearer, scopes=["a", "b"])]) -> Any:
        return claims.roles

    def editor(claims: Annotated[Claims, Depends(bearer)]) -> str:
        return claims.sub

    @app.get("/nested")
    async def nested(user: Annotated[str, Security(editor, scopes=["a"])]) -> Any:
        return user

    @app.get("/bare")
    async def bare(claims: Annotated[Claims, Depends(bearer)]) -> Response:
        return Response(claims.sub)

    app.mount("/auth", TokenEndpoints(both.app))
    with TestClient(app) as client:
        yield client


def test_fastapi_claims_are_typed(fastapi: TestClient, both: Both) -> None:
    got = fastapi.get("/roles", headers=both.header("a b", claims={"roles": ["editor"]}))
    assert (got.status_code, got.json()) == (200, ["editor"])


def test_fastapi_scopes_of_nested_dependencies_count(fastapi: TestClient, both: Both) -> None:
    assert fastapi.get("/nested", headers=both.header("a")).json() == "ada"
    got = fastapi.get("/nested", headers=both.header("b"))
    assert (got.status_code, got.json()) == (403, {"detail": {"error": "insufficient_scope", "scope": "a"}})
    assert got.headers["www-authenticate"] == 'Bearer realm="api", error="insufficient_scope", scope="a"'


def test_fastapi_shows_scopes_in_openapi(fastapi: TestClient) -> None:
    schema = fastapi.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"] == {
        "bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    }
    assert schema["paths"]["/roles"]["get"]["security"] == [{"bearer": ["a", "b"]}]
    assert "parameters" not in schema["paths"]["/roles"]["get"]


def test_fastapi_hears_of_a_login_that_ends(fastapi: TestClient, both: Both) -> None:
    header = both.header()
    assert fastapi.get("/bare", headers=header).text == "ada"
    both.sync.sessions.of("ada").end_all()
    got = fastapi.get("/bare", headers=header)
    assert (got.status_code, got.json()) == (401, {"detail": {"error": "invalid_token"}})


def test_fastapi_recent_must_be_a_time(both: Both) -> None:
    with pytest.raises(ConfigurationError, match="recent=600"):
        Bearer(both.app).recent(600)  # type: ignore[arg-type]
    with pytest.raises(WrongFace):
        Bearer(both.sync)  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------------- Starlette


def test_starlettes_own_words(both: Both) -> None:
    @requires("a")
    async def page(request: Request) -> JSONResponse:
        return JSONResponse({"user": request.user.display_name, "roles": request.user.claims.roles})

    async def anybody(request: Request) -> JSONResponse:
        return JSONResponse(request.user.is_authenticated)

    backend = BearerBackend(both.app)
    middleware = [Middleware(AuthenticationMiddleware, backend=backend, on_error=backend.on_error)]
    app = Starlette(routes=[Route("/a", page), Route("/any", anybody)], middleware=middleware)
    client = StarletteClient(app)
    assert client.get("/a", headers=both.header("a b")).json() == {"user": "ada", "roles": []}
    assert client.get("/a", headers=both.header("b")).status_code == 403
    assert client.get("/any").json() is False
    assert client.get("/any", headers=both.header()).json() is True
    refused = client.get("/any", headers={"Authorization": "Bearer x"})
    assert (refused.status_code, refused.json()) == (401, {"error": "invalid_token"})
    assert refused.headers["www-authenticate"] == 'Bearer realm="api", error="invalid_token"'


def test_starlettes_decorator_is_for_async_views(both: Both) -> None:
    bearer = StarletteBearer(both.app)
    with pytest.raises(ConfigurationError, match="it is for `async def`"):
        bearer.requires()(lambda request: None)  # type: ignore[arg-type,return-value]
    with pytest.raises(OutsideRequest, match="no token was asked for here"):
        bearer.claims(Request({"type": "http", "headers": []}))


# ----------------------------------------------------------------------------------------------------------- Flask


def test_flask_views_are_guarded_one_by_one(both: Both) -> None:
    bearer = FlaskBearer(both.sync)
    app = Flask("site")

    @app.get("/a")
    @bearer.requires("a")
    def a() -> Any:
        return bearer.claims().roles

    @app.get("/open")
    def open_() -> Any:
        with pytest.raises(OutsideRequest):
            bearer.claims()
        return "open"

    client = app.test_client()
    assert client.get("/a", headers=both.header("a", claims={"roles": ["x"]})).json == ["x"]
    assert client.get("/a", headers=both.header("b")).status_code == 403
    assert client.get("/a").headers["WWW-Authenticate"] == 'Bearer realm="api"'
    assert client.get("/open", headers=both.header()).text == "open"
    with pytest.raises(OutsideRequest):
        bearer.claims()


def test_flask_listens_from_its_first_request_on(both: Both) -> None:
    bearer = FlaskBearer(both.sync, listen=True)
    app = Flask("site")

    @app.get("/a")
    @bearer.requires()
    def a() -> Any:
        return bearer.claims().sub

    client, header = app.test_client(), both.header()
    assert client.get("/a", headers=header).text == "ada"
    assert both.sync._feed is not None
    both.sync.sessions.of("ada").end_all()
    assert client.get("/a", headers=header).status_code == 401
    both.sync.sessions.close()


# ------------------------------------------------------------------------------------------------------------ ASGI


def test_endpoints_may_be_served_alone(both: Both) -> None:
    with TestClient(TokenEndpoints(both.app)) as client:
        assert client.get("/jwks.json").status_code == 200
        assert client.post("/token", data={"a": "b"}).status_code == 401


def test_a_websocket_finds_no_endpoint(both: Both) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(TokenEndpoints(both.app)({"type": "websocket"}, None, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
