"""A browser as small as the doctor needs: cookies, forms, TLS, and every response as it came. Follows nothing by itself."""

import json
import re
import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Final, Self
from urllib.parse import SplitResult, urlencode, urljoin, urlsplit

from coatcheck.errors import UsageError

__all__ = ["Answer", "Browser", "Form", "Site", "Unreachable", "Untrusted", "forms_of"]

_MOST: Final = 1_000_000
"""Octets of a body that are read: a page, not a download."""
_AGENT: Final = "coatcheck-doctor"
_GONE: Final = re.compile(r"1970")


class Unreachable(Exception):
    """The site does not answer."""


class Untrusted(Exception):
    """The site's certificate is not to be trusted: nothing that it answers means anything."""


@dataclass(frozen=True)
class Cookie:
    """One Set-Cookie field, taken apart. Attribute names are in lower case."""

    name: str
    value: str
    attributes: Mapping[str, str]

    @property
    def is_deletion(self) -> bool:
        """Whether it takes the cookie away."""
        max_age = self.attributes.get("max-age")
        return max_age in ("0", "-1") or (
            max_age is None and bool(_GONE.search(self.attributes.get("expires", "")))
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """What a Set-Cookie field says."""
        pair, *rest = text.split(";")
        name, _, value = pair.strip().partition("=")
        parts = (part.partition("=") for part in rest)
        return cls(name, value, {word.strip().lower(): said.strip() for word, _, said in parts})


@dataclass(frozen=True)
class Answer:
    """A response. Header names are in lower case, every field on its own."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = field(default=b"", repr=False)

    def all(self, name: str) -> list[str]:
        """The values of every field of this name."""
        return [value for header, value in self.headers if header == name]

    def words(self, name: str) -> set[str]:
        """The comma-separated words of a header, without what follows a `=`, in lower case."""
        text = ",".join(self.all(name))
        return {word.partition("=")[0].strip().lower() for word in text.split(",")} - {""}

    @property
    def cookies(self) -> list[Cookie]:
        """What it sets."""
        return [Cookie.parse(text) for text in self.all("set-cookie")]

    @property
    def path(self) -> str:
        """Where it was asked for."""
        return urlsplit(self.url).path or "/"

    def sets(self, name: str | None) -> list[Cookie]:
        """What it sets of this name, deletions left out."""
        return [cookie for cookie in self.cookies if cookie.name == name and not cookie.is_deletion]


@dataclass(frozen=True)
class Site:
    """Where the site is and how to reach it. `url` is the start page."""

    url: str
    context: ssl.SSLContext
    timeout: float = 10.0

    @property
    def parts(self) -> SplitResult:
        """The URL, taken apart."""
        return urlsplit(self.url)

    @property
    def origin(self) -> str:
        """Scheme, host and port, as browsers say it."""
        return f"{self.parts.scheme}://{self.parts.netloc}"

    @property
    def is_https(self) -> bool:
        """Whether the way to it is encrypted."""
        return self.parts.scheme == "https"

    def at(self, path: str) -> str:
        """The URL of a path. Raises UsageError for another host's: a password must not be sent there."""
        url = urljoin(self.url, path)
        if f"{urlsplit(url).scheme}://{urlsplit(url).netloc}" != self.origin:
            raise UsageError(
                f"{url} is not on {self.origin}: every page must be of the one site that is looked at"
            )
        return url


class Browser:
    """A visitor: keeps cookies by name, and sends them with every request."""

    def __init__(self, site: Site, cookies: Mapping[str, str] | None = None) -> None:
        self.site, self.cookies = site, dict(cookies or {})

    def get(self, url: str, **headers: str) -> Answer:
        """Ask for a page; header names have `_` for `-`."""
        return self._send("GET", url, None, headers)

    def post(self, url: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """Send a form, as a page of the same site would."""
        return self._post(url, urlencode(fields), "application/x-www-form-urlencoded", headers)

    def post_json(self, url: str, fields: Mapping[str, str], **headers: str) -> Answer:
        """The same, as a script of the site would."""
        return self._post(url, json.dumps(dict(fields)), "application/json", headers)

    def _post(self, url: str, body: str, kind: str, headers: Mapping[str, str]) -> Answer:
        own = {
            "Origin": self.site.origin,
            "Referer": self.site.url,
            "Sec_Fetch_Site": "same-origin",
            "Content_Type": kind,
        }
        return self._send("POST", url, body.encode(), own | dict(headers))

    def _send(self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]) -> Answer:
        fields = {"User-Agent": _AGENT, "Accept": "text/html,application/json;q=0.9,*/*;q=0.8"}
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        answer = _ask(self.site, method, url, body, fields)
        for cookie in answer.cookies:
            if cookie.is_deletion:
                self.cookies.pop(cookie.name, None)
            else:
                self.cookies[cookie.name] = cookie.value
        return answer


def _ask(site: Site, method: str, url: str, body: bytes | None, fields: Mapping[str, str]) -> Answer:
    parts = urlsplit(url)
    connection = _connection(site, parts)
    try:
        connection.request(
            method, f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}", body, dict(fields)
        )
        response = connection.getresponse()
        headers = tuple((name.lower(), value) for name, value in response.getheaders())
        return Answer(url, response.status, headers, response.read(_MOST))
    except ssl.SSLCertVerificationError as error:
        raise Untrusted(f"{parts.netloc}: {error.verify_message}") from error
    except (OSError, HTTPException) as error:
        raise Unreachable(f"{parts.netloc} does not answer: {str(error) or type(error).__name__}") from error
    finally:
        connection.close()


def _connection(site: Site, parts: SplitResult) -> HTTPConnection:
    host, port = parts.hostname or "", parts.port
    if parts.scheme == "https":
        return HTTPSConnection(host, port, timeout=site.timeout, context=site.context)
    return HTTPConnection(host, port, timeout=site.timeout)


@dataclass
class Form:
    """A form of a page: where it goes, and the fields that nobody sees, a CSRF token say."""

    action: str
    method: str
    hidden: dict[str, str] = field(default_factory=dict)


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._is_open = False

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        said = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._is_open = True
            self.forms.append(Form(said.get("action", ""), said.get("method", "get").lower()))
        elif (
            tag == "input" and self._is_open and said.get("type", "").lower() == "hidden" and said.get("name")
        ):
            self.forms[-1].hidden[said["name"]] = said.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._is_open = False


def forms_of(answer: Answer) -> list[Form]:
    """The forms of a page."""
    parser = _Forms()
    parser.feed(answer.body.decode("utf-8", "replace"))
    return parser.forms
