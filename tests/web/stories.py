"""What visitors live through, told of any application of `tests/web/others.py`: `story(new)`, where `new` makes a visitor."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.web.others import TOGETHER

NewVisitor = Callable[[], Any]
DAY = 86_400


def copy(new: NewVisitor, visitor: Any) -> Any:
    """Somebody else with the same cookies."""
    thief = new()
    thief.cookies = dict(visitor.cookies)
    return thief


def text(visitor: Any, *paths: str) -> list[str]:
    """The texts of pages, one after the other."""
    return [visitor.visit(path).text for path in paths]


def logs_in_and_works(new: NewVisitor) -> None:
    """A login gives a new cookie, keeps what there was, and leaves nothing to whoever had the old one."""
    visitor = new()
    assert [name for name, _ in visitor.visit("/pub").headers if name in ("vary", "set-cookie")] == []
    visitor.visit("/set?v=mine")
    planted = copy(new, visitor)
    visitor.visit("/login?user=ada")
    assert visitor.cookies != planted.cookies
    assert text(visitor, "/user", "/read", "/incr", "/incr") == ["ada", "mine", "1", "2"]
    assert text(planted, "/user", "/read") == ["None", "None"]
    assert text(visitor, "/cart?v=tea", "/cart?v=jam") == ["tea", "tea jam"]


def does_things_at_once(new: NewVisitor) -> None:
    """Requests that overlap lose nothing of each other."""
    visitor = new()
    visitor.visit("/login?user=ada")
    keys = [f"k{number}" for number in range(TOGETHER)]
    copies = [copy(new, visitor) for _ in keys]
    with ThreadPoolExecutor(TOGETHER) as pool:
        seen = list(pool.map(lambda each, key: each.visit(f"/meet?key={key}"), copies, keys))
    assert [response.status for response in seen] == [200] * TOGETHER
    assert text(visitor, *(f"/read?k={key}" for key in keys)) == ["True"] * TOGETHER
    assert text(visitor, "/incr") == [str(TOGETHER + 1)]


def changes_the_cookie(new: NewVisitor) -> None:
    """A rotation leaves all but the cookie as it was."""
    visitor = new()
    visitor.visit("/set?v=mine")
    old = copy(new, visitor)
    visitor.visit("/rotate")
    assert [text(each, "/read") for each in (visitor, old)] == [["mine"], ["None"]]


def logs_out(new: NewVisitor) -> None:
    """A logout ends the session in the browser and on the server."""
    visitor = new()
    visitor.visit("/login?user=ada")
    thief = copy(new, visitor)
    (cookie,) = visitor.visit("/logout").all("set-cookie")
    assert ("Max-Age=0" in cookie, visitor.cookies) == (True, {})
    assert (text(thief, "/user"), thief.visit("/incr").all("set-cookie")) == (["None"], [])


def stays_away_too_long(new: NewVisitor) -> None:
    """A session ends a day after it was last seen."""
    visitor = new()
    visitor.visit("/login?user=ada")
    for _ in range(2):
        visitor.visit(f"/later?s={DAY - 60}")
        assert text(visitor, "/user") == ["ada"]
    visitor.visit(f"/later?s={DAY + 60}")
    assert text(visitor, "/user") == ["None"]


def is_ended_from_another_device(new: NewVisitor) -> None:
    """One device ends the others' sessions."""
    phone, laptop, somebody = new(), new(), new()
    for visitor, user in ((phone, "eve"), (laptop, "eve"), (somebody, "bob")):
        visitor.visit(f"/login?user={user}")
    assert text(phone, "/others") == ["1"]
    assert [text(each, "/user") for each in (phone, laptop, somebody)] == [["eve"], ["None"], ["bob"]]


def meets_a_bug(new: NewVisitor) -> None:
    """Of a request that fails, nothing is kept but its logout."""
    visitor = new()
    visitor.visit("/login?user=ada")
    seen = visitor.visit("/boom")
    assert (seen.status, seen.all("set-cookie")) == (500, [])
    assert text(visitor, "/read", "/user") == ["None", "ada"]
    thief = copy(new, visitor)
    assert visitor.visit("/boom_logout").status == 500
    assert text(thief, "/user") == ["None"]


STORIES = [
    logs_in_and_works, does_things_at_once, changes_the_cookie, logs_out, stays_away_too_long,
    is_ended_from_another_device, meets_a_bug,
]  # fmt: skip
