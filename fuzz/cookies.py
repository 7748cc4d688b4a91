"""Cookie headers, cookie settings and Set-Cookie values: the reader against an obvious one, the writer against the reader.

Checklist 35, 45, 48, 52 and 209: nothing but the documented exceptions, whatever comes in.
"""

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from coatcheck.core import cookies
from coatcheck.errors import ConfigurationError, CookieTooLarge

NAMES = (b"sid", b"session", b"__Host-session", b"__Secure-session", b"connect.sid", b"a", b"==", b"aa")
# What cookie headers are made of, and what breaks parsers: structure, near misses of our name, raw bytes.
ATOMS = (
    *(b";", b"; ", b"=", b",", b'"', b"\\", b" ", b"\t", b"\r\n", b"\x00", b"\x7f", b"\x80\xff", b"\xc0\xaf"),
    *(b"$Version=1", b"__%48ost-session=", b"__HOST-SESSION=", b"x", b"xsid=", b"sidx=", b"sid =", b'"sid"='),
    *(
        b"_ga=GA1.2.3",
        b'a="b; sid=',
        b"x[]=1",
        b"%3Bsid=",
        b"\xed\xa0\x80",
        b"\x0b",
        b"\xa0",
        b";;;",
        b"s:id.sig",
    ),
)
MARKS = ("\r", "\n", ";", ",", "\x00", "\x7f", " ", "\t", '"', "\\", "é", "\ud800", "a", "/", ".", "=", "%")

Find = Callable[[Iterable[bytes], bytes], list[bytes]]


@dataclass(frozen=True)
class Header:
    """A request's Cookie fields and the name we look for."""

    fields: list[bytes]
    name: bytes


@dataclass(frozen=True)
class Written:
    """Settings as a user might give them, right or wrong, and a cookie to write with them."""

    settings: dict[str, Any]
    name: str
    value: bytes
    secure: bool
    max_age: int | None


def reference(fields: Iterable[bytes], name: bytes, *, most: int = cookies.MOST) -> list[bytes]:
    """Do what `cookies.find` promises, the slow and obvious way."""
    pairs = b"; ".join(fields)
    if len(pairs) > cookies.MAX_HEADER:
        return []
    found = []
    for pair in pairs.split(b";"):
        before, equals, after = pair.strip(b" \t").partition(b"=")
        if equals and before == name:
            found.append(after.strip(b" \t"))
    return found if len(found) <= most else []


def generate(rng: random.Random) -> Header | Written:
    """Make a header (three in four) or something to write."""
    if rng.random() < 0.25:
        return _written(rng)
    name = rng.choice([name for name in NAMES if name != b"=="])
    return Header([_field(rng, name) for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 3)))], name)


def check(case: Header | Written, find: Find = cookies.find) -> None:
    """Raise if a promise is broken."""
    if isinstance(case, Header):
        check_header(case, find)
    else:
        check_written(case)


def check_header(case: Header, find: Find) -> None:
    """The reader agrees with the obvious one and hands out nothing but bytes of the header."""
    found = find(case.fields, case.name)
    expected = reference(case.fields, case.name)
    assert found == expected, f"found {found!r}, expected {expected!r}"
    assert all(type(value) is bytes for value in found)
    if len(case.fields) == 1:
        assert cookies.find_in(case.fields[0], case.name) == expected


def check_written(case: Written) -> None:
    """Wrong settings and values are refused by the documented exceptions; what is written is one clean line and reads back."""
    try:
        settings = cookies.CookieSettings(**case.settings)
        writer = cookies.Writer(settings, case.name, secure=case.secure)
    except ConfigurationError as error:
        check_message(str(error))
        return
    check_line(writer.clear(), case.name.encode("ascii"), b"")
    try:
        line = writer.set(case.value, max_age=case.max_age, now=1_800_000_000.5)
    except CookieTooLarge:
        assert len(case.name) + len(case.value) > cookies.MAX_COOKIE
    except ConfigurationError:
        assert not case.secure
    except ValueError as error:
        assert not cookie_octets(case.value)
        check_message(str(error), secret=case.value)
    else:
        assert cookie_octets(case.value)
        check_line(line, case.name.encode("ascii"), case.value)


def check_message(message: str, *, secret: bytes = b"") -> None:
    """A message carries no foreign characters into a log, and no value."""
    assert message.isascii(), message
    assert message.isprintable(), message
    assert len(secret) < 12 or ascii(secret)[2:-1] not in message


def check_line(line: bytes, name: bytes, value: bytes) -> None:
    """A Set-Cookie value is visible ASCII and spaces, and its pair is read back as it was written."""
    assert all(0x20 <= octet < 0x7F for octet in line), line
    pair, _, attributes = line.partition(b";")
    assert cookies.find([b"zz=1; " + pair + b"; zz=2"], name) == [value]
    known = (
        b"Max-Age=",
        b"Domain=",
        b"Path=",
        b"Expires=",
        b"HttpOnly",
        b"Secure",
        b"Partitioned",
        b"Priority=",
        b"SameSite=",
    )
    parts = [part.strip() for part in attributes.split(b";")]
    assert all(part.startswith(known) for part in parts), line
    assert len({part.partition(b"=")[0] for part in parts}) == len(parts), line


def cookie_octets(value: bytes) -> bool:
    """RFC 6265bis section 4.1.1, spelled out."""
    return all(
        o == 0x21 or 0x23 <= o <= 0x2B or 0x2D <= o <= 0x3A or 0x3C <= o <= 0x5B or 0x5D <= o <= 0x7E
        for o in value
    )


def _field(rng: random.Random, name: bytes) -> bytes:
    how = rng.random()
    if how < 0.1:
        return rng.randbytes(rng.randrange(200))
    if how < 0.12:  # around the size gate
        return name + b"=v; a=" + b"x" * (cookies.MAX_HEADER - len(name) - 6 + rng.randrange(-2, 3))
    if how < 0.5:
        return b"".join(_atom(rng, name) for _ in range(rng.randrange(12)))
    return _mutated(rng, _sound(rng, name))


def _sound(rng: random.Random, name: bytes) -> bytes:
    """Make a header as browsers send it, ours in it none to ten times."""
    pairs = [b"%b=%d" % (rng.choice(NAMES[:-2]), rng.randrange(100)) for _ in range(rng.randrange(5))]
    pairs += [
        name + b"=" + rng.randbytes(8).hex().encode() for _ in range(rng.choice((0, 1, 1, 1, 2, 7, 8, 9, 10)))
    ]
    rng.shuffle(pairs)
    return b"; ".join(pairs)


def _mutated(rng: random.Random, header: bytes) -> bytes:
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(header) + 1)
        how = rng.randrange(4)
        if how == 0:
            header = header[:at] + _atom(rng, b"sid") + header[at:]
        elif how == 1:
            header = header[:at] + header[at + rng.randrange(1, 5) :]
        elif how == 2:
            header = header[:at] + rng.randbytes(1) + header[at + 1 :]
        else:
            header = header[:at] + header[: rng.randrange(len(header) + 1)] + header[at:]
    return header


def _atom(rng: random.Random, name: bytes) -> bytes:
    how = rng.random()
    if how < 0.3:
        return name + b"="
    if how < 0.4:
        return name
    if how < 0.45:
        return rng.randbytes(rng.randrange(4))
    return rng.choice(ATOMS)


def _written(rng: random.Random) -> Written:
    maybe: dict[str, Callable[[], Any]] = {
        "name": lambda: _name(rng),
        "path": lambda: rng.choice(
            ("/", "/app", "/" + _text(rng), "/" * rng.choice((1024, 1025)), _text(rng), None, 1)
        ),
        "domain": lambda: rng.choice(
            (None, "example.com", ".example.com", _text(rng), "a" * 1025, "https://x", b"x")
        ),
        "secure": lambda: rng.choice((True, False, "auto", "AUTO", 1, None, _text(rng))),
        "http_only": lambda: rng.choice((True, False, None)),
        "same_site": lambda: rng.choice((True, False, "Lax", "strict", "none", "auto", None, 0, _text(rng))),
        "max_age": lambda: rng.choice(
            (None, 0, 1, 3600, 86_400_000, -1, True, 1.5, "1", timedelta(days=rng.randrange(900)))
        ),
        "expires": lambda: rng.choice((None, datetime(2030, 1, 1, tzinfo=UTC), datetime(2030, 1, 1), 5)),
        "partitioned": lambda: rng.choice((True, False, "yes")),
        "priority": lambda: rng.choice((None, "low", "High", "urgent", 2)),
    }
    given = rng.sample(sorted(maybe), rng.choice((0, 1, 1, 2, 2, 3, 4)))
    settings = {key: maybe[key]() for key in given}
    return Written(
        settings, _name(rng), _value(rng), rng.random() < 0.7, rng.choice((None, 0, 3600, -5, 10**9))
    )


def _name(rng: random.Random) -> str:
    prefix = rng.choice(("", "", "", "__Host-", "__Secure-", "__host-", "__HOST-", "__Http-", "__Host-Http-"))
    return prefix + (_text(rng) if rng.random() < 0.2 else "sid")


def _text(rng: random.Random) -> str:
    return "".join(rng.choice(MARKS) for _ in range(rng.randrange(6)))


def _value(rng: random.Random) -> bytes:
    if rng.random() < 0.1:
        return b"v" * rng.randrange(4060, 4100)
    value = rng.randbytes(rng.randrange(40)).hex().encode()
    if rng.random() < 0.3:
        at = rng.randrange(len(value) + 1)
        value = value[:at] + rng.randbytes(1) + value[at:]
    return value
