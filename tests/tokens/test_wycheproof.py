"""Project Wycheproof's vectors for JWS, as labelled but for eight that cannot be.

The eight: 346, 347, 350 and 351 are called valid under a key of another algorithm (or of one that does not exist); 372 and 373
are called valid with a character that base64url has not; 367 and 370 are called invalid and are, byte for byte,
357, which is valid.
"""

from typing import Any

import pytest

from coatcheck import ConfigurationError, InvalidToken
from coatcheck.tokens import KeyRing, jws
from tests.tokens.wycheproof import cases, groups

LABELLED_WRONGLY = {
    346: False,
    347: False,
    350: False,
    351: False,
    372: False,
    373: False,
    367: True,
    370: True,
}


def accepts(group: dict[str, Any], token: str) -> bool:
    try:
        ring = KeyRing.from_jwks(group.get("public") or group["private"])
        jws.verify(token, ring, now=0.0)
    except (ConfigurationError, InvalidToken):
        return False
    return True


@pytest.mark.parametrize(("group", "test"), cases())
def test_json_web_signature(group: dict[str, Any], test: dict[str, Any]) -> None:
    expected = LABELLED_WRONGLY.get(test["tcId"], test["result"] == "valid")
    assert accepts(group, test["jws"]) is expected, test["comment"]


@pytest.mark.parametrize(("group", "test"), cases()[:60])
def test_a_key_that_signs_verifies_too(group: dict[str, Any], test: dict[str, Any]) -> None:
    """The private halves of the same groups give the same answers."""
    if test["tcId"] not in LABELLED_WRONGLY:
        assert accepts({"public": group["private"]}, test["jws"]) is (test["result"] == "valid")


def test_the_count_is_what_the_checklist_says() -> None:
    assert sum(len(group["tests"]) for group in groups()) == 401
