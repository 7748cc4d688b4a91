"""One field of a form, found in the beginning of its body, so that the rest need not be read before the application does.

What is read here is only ever compared with a MAC of ours: a body that other parsers read differently gains nothing by that.
"""

import re
from email.message import Message
from typing import Final
from urllib.parse import unquote_plus

__all__ = ["LOOK", "FormBody"]

LOOK: Final = 65_536
"""Octets of a body in which the token has to be found: put the hidden field first in a form that uploads files."""
_NAME: Final = re.compile(rb'[;\s]name="?([^";\r\n]*)"?', re.IGNORECASE)


class FormBody:
    """The body of a request, as far as it has come."""

    def __init__(self, content_type: str, field: str) -> None:
        self._field, self._head = field.encode("ascii"), b""
        parsed = Message()
        parsed["content-type"] = content_type
        self._kind = parsed.get_content_type()
        boundary = parsed.get_param("boundary")
        self._boundary = (
            boundary.encode("latin-1", "replace") if isinstance(boundary, str) and boundary else b""
        )

    @property
    def is_form(self) -> bool:
        """Whether there may be a field in it. Text/plain, which pages of other sites can send too, is no form (100)."""
        if self._kind == "multipart/form-data":
            return 0 < len(self._boundary) <= 70  # RFC 2046 section 5.1.1
        return self._kind == "application/x-www-form-urlencoded"

    def add(self, piece: bytes) -> bool:
        """Take the next piece. Returns whether another may help."""
        self._head += piece[: LOOK - len(self._head)]
        return len(self._head) < LOOK

    @property
    def room(self) -> int:
        """How many octets more are looked at."""
        return LOOK - len(self._head)

    def value(self, *, is_whole: bool) -> str | None:
        """The first field of this name, if it has come to its end."""
        if self._kind == "multipart/form-data":
            return self._part()
        pairs = self._head.split(b"&")
        for pair in pairs if is_whole else pairs[:-1]:
            name, _, value = pair.partition(b"=")
            if name == self._field:
                return unquote_plus(value.decode("latin-1"))
        return None

    def _part(self) -> str | None:
        *parts, _ = (b"\r\n" + self._head).split(b"\r\n--" + self._boundary)
        for part in parts[1:]:
            head, blank, body = part.partition(b"\r\n\r\n")
            name = _NAME.search(head) if b"filename" not in head.lower() else None
            if blank and name is not None and name[1] == self._field:
                return body.decode("latin-1")
        return None
