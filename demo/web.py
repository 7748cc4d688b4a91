"""What the pages share: the house they live in, rendering, redirects, and how times are told."""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.templating import Jinja2Templates

from coatcheck import AsyncSession
from coatcheck.core.ports import Store
from coatcheck.starlette import Bearer, csrf_field
from coatcheck.throttling import LoginThrottle
from coatcheck.tokens import AsyncTokens
from demo.users import Users

__all__ = ["FOLDER", "House", "ago", "house", "problem", "render", "see_other", "span", "wants_html"]

FOLDER = Path(__file__).parent
UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


@dataclass(frozen=True)
class House:
    """What the application is made of."""

    users: Users
    store: Store
    tokens: AsyncTokens
    bearer: Bearer
    throttle: LoginThrottle


def house(request: Request) -> House:
    """The house this request came to."""
    found: House = request.app.state.house
    return found


def wants_html(request: Request) -> bool:
    """Whether a person asks. Scripts, which do not ask for HTML, get JSON."""
    return "text/html" in request.headers.get("accept", "")


def render(
    request: Request, session: AsyncSession[Any], template: str, *, status: int = 200, **values: Any
) -> Response:
    """A page, with the visitor's name and the messages left for them."""
    values |= {
        "user": house(request).users.name(session.user_id),
        "flashes": session.flashes(),
        "here": request.url.path,
    }
    return _templates.TemplateResponse(
        request, template, values, status_code=status, headers={"Vary": "Accept"}
    )


def see_other(where: str) -> Response:
    """Go on there: after a form, so that reloading does not send it again."""
    return RedirectResponse(where, status_code=303)


def problem(status: int, message: str) -> Response:
    """An error, for a script."""
    return JSONResponse({"error": message}, status_code=status, headers={"Vary": "Accept"})


def span(seconds: float) -> str:
    """A length of time in its largest unit: "3 hours"."""
    for size, name in UNITS:
        count = int((abs(seconds) + (size > 1)) // size)  # 23:59:59 reads as a day
        if count:
            return f"{count} {name}{'s' if count > 1 else ''}"
    return "a moment"


def ago(then: datetime | float) -> str:
    """A moment as people tell it: "3 hours ago", "in 3 hours", "just now"."""
    at = then if isinstance(then, float) else then.timestamp()
    left = at - datetime.now(UTC).timestamp()
    if abs(left) < 1:
        return "just now"
    return f"in {span(left)}" if left > 0 else f"{span(left)} ago"


def _clock(then: datetime | float) -> str:
    moment = datetime.fromtimestamp(then, UTC) if isinstance(then, float) else then
    return f"{moment:%-d %B %Y, %H:%M:%S} UTC"


_environment = Environment(
    loader=FileSystemLoader(FOLDER / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.globals["csrf_field"] = csrf_field
_environment.filters |= {"ago": ago, "clock": _clock}
_templates = Jinja2Templates(env=_environment)
