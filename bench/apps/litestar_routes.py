"""The Litestar routes that every Litestar contestant with sessions has; only who keeps the session differs."""

from litestar import MediaType, Request, get


@get("/login", media_type=MediaType.TEXT)
async def login(request: Request) -> str:
    """Put into the session what a small application keeps there."""
    request.session["user"] = "7d1f2c4e"
    request.session["n"] = 0
    return "ok"


@get("/write", media_type=MediaType.TEXT)
async def write(request: Request) -> str:
    """Load the session, change it, save it."""
    request.session["n"] = request.session.get("n", 0) + 1
    return "ok"


@get("/read", media_type=MediaType.TEXT)
async def read(request: Request) -> str:
    """Load the session and read from it."""
    return str(request.session.get("n"))


ROUTES = [login, write, read]
