"""JSON that says one thing only: UTF-8, one object, no name twice (checklist 141, 143, 145).

RFC 7515 section 4 and RFC 7519 section 4 let a parser refuse duplicate names or take the last one. Two parsers that choose
differently read two different tokens out of one, so these are refused.
"""

import json
import math
from typing import Any, NoReturn

import msgspec

__all__ = ["strict_object"]


def strict_object(data: bytes) -> dict[str, Any]:
    """The JSON object in these bytes. Raises ValueError for anything else, whatever it is."""
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ValueError("not JSON") from error
    if type(found) is not dict:
        raise ValueError("not a JSON object")
    # Written again it is the same, so nothing was there twice: true of every token of our own, and three times as fast.
    if msgspec.json.encode(found) != data:
        _look_closely(data)
    return found


def _look_closely(data: bytes) -> None:
    """Python's own parser hands over every pair of every object, also the ones that are lost in a dict."""
    try:
        json.loads(
            data.decode("utf-8"), object_pairs_hook=_once, parse_float=_finite, parse_constant=_refused
        )
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def _once(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError("a name occurs twice")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number out of range")
    return number


def _refused(text: str) -> NoReturn:
    raise ValueError(f"{text} is no JSON")
