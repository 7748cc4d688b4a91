"""Where to go after a login: `?next=` is whatever a stranger put into a link (checklist 109, ASVS 3.7.2)."""

import re
from collections.abc import Iterable
from typing import Final

from coatcheck.security.origins import check_origins, origin_of

__all__ = ["safe_next"]

_LONGEST: Final = 2048
_CONTROL: Final = re.compile(
    r"[\x00-\x20\x7f-\xa0\u2028\u2029\ufeff]|%0[0-9a-f]|%1[0-9a-f]|%7f", re.IGNORECASE
)
"""Control characters and blanks, raw or percent-encoded. Browsers drop tabs and line breaks, wherever in a URL they stand."""


def safe_next(target: object, default: str = "/", *, allowed: Iterable[str] = ()) -> str:
    """`target` if it leads to this very site or to an allowed origin, else `default`.

    target   what the request asked for, such as `request.query_params.get("next")`; anything may be in it
    default  where to go instead
    allowed  origins that redirects may lead to besides this site, as in `["https://app.example"]`

    Refused: everything that is not a path beginning with one slash, `//host` and its disguises (`/\\host`, a tab between the
    slashes), backslashes and control characters anywhere. Never give it the `Referer`. Raises ConfigurationError for an
    `allowed` origin that is none.
    """
    origins = check_origins(allowed, setting="allowed")
    if not isinstance(target, str) or not 0 < len(target) <= _LONGEST:
        return default
    if "\\" in target or _CONTROL.search(target):
        return default
    if target.startswith("/"):
        return default if target.startswith("//") else target
    return target if origin_of(target) in origins else default
