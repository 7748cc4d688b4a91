"""The form that an OAuth request is (RFC 6749 appendix B), read strictly: each parameter once, everything text, nothing large.

JSON is refused, and with it every object where a token should be (checklist 114).
"""

from typing import Final
from urllib.parse import parse_qsl

from coatcheck.bearer.http import Answer, Asked, Refused, json_answer

__all__ = ["MAX_BODY", "Form", "read", "refusal"]

MAX_BODY: Final = 16 * 1024
"""Octets of a request's body that are read: twice the longest token."""
_MAX_FIELDS: Final = 20
_KIND: Final = "application/x-www-form-urlencoded"


class Form(dict[str, str]):
    """A request's parameters. Shows their names, and never what is in them (checklist 201)."""

    def __repr__(self) -> str:
        return f"<Form of {', '.join(map(ascii, self))}>"


def refusal(status: int, error: str, *headers: tuple[str, str]) -> Refused:
    """An error as RFC 6749 section 5.2 has it."""
    return Refused(oauth_error(status, error, *headers))


def oauth_error(status: int, error: str, *headers: tuple[str, str]) -> Answer:
    """The answer that goes with it."""
    return json_answer(status, {"error": error}, *headers)


def read(asked: Asked, body: bytes | None) -> Form:
    """The parameters of a request. `body` is None if it was larger than MAX_BODY. Raises Refused."""
    if body is None:
        raise refusal(413, "invalid_request")
    if asked.one("content-type").partition(";")[0].strip().lower() != _KIND:
        raise refusal(400, "invalid_request")
    try:
        pairs = parse_qsl(
            body.decode("utf-8"), keep_blank_values=True, errors="strict", max_num_fields=_MAX_FIELDS
        )
    except ValueError:  # UnicodeDecodeError is one
        raise refusal(400, "invalid_request") from None
    if len({name for name, _ in pairs}) != len(pairs):
        raise refusal(400, "invalid_request")
    return Form(
        {name: value for name, value in pairs if value}
    )  # one without a value counts as left out (section 3.1)
