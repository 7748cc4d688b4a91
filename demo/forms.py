"""The secret token in every form that changes a session: a page of another site cannot know it (OWASP, synchroniser token).

It is kept in the session and not carried into a login (`login_keeps` in `app.py`), so a login gets a token of its own.
"""

import hmac
import secrets
from typing import Any

from starlette.datastructures import FormData
from starlette.exceptions import HTTPException
from starlette.requests import Request

from coatcheck import AsyncSession

__all__ = ["read", "token"]

KEY = "csrf"


def token(session: AsyncSession[Any]) -> str:
    """This session's token, for a hidden field."""
    if KEY not in session:
        session[KEY] = secrets.token_urlsafe(24)
    return str(session[KEY])


async def read(request: Request, session: AsyncSession[Any]) -> FormData:
    """The fields of a form, if it carries this session's token. Raises HTTPException 403 if it does not."""
    form = await request.form(max_files=0, max_fields=20)
    sent, expected = str(form.get(KEY, "")), str(session.get(KEY, ""))
    if not expected or not hmac.compare_digest(sent.encode(), expected.encode()):
        raise HTTPException(
            403, "This form is older than your session. Go back, load the page again, and repeat."
        )
    return form
