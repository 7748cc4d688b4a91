"""The devices page without a server: a request in, an answer out, over the session of whoever asks (checklist 70).

    GET  /            the list: HTML, or JSON for `Accept: application/json`, which has the `csrf_token` too
    POST /end         ends the session `handle`, if it is this user's
    POST /end-others  ends every session of the user but this one

To end sessions needs a login that is recent: 403 `reauth_required` otherwise. A form is believed if it came from our own origin
and carries a token that is bound to this session: the field `csrf_token`, or the header `X-CSRF-Token`.
"""

from collections.abc import Callable, Coroutine, Mapping
from datetime import timedelta
from inspect import isawaitable
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs

import msgspec

from coatcheck import stepup
from coatcheck._csrf.guard import Guard, Protection
from coatcheck.core.stepping import run_now
from coatcheck.devices.html import POLICY, listing, notice
from coatcheck.devices.texts import TEXTS
from coatcheck.errors import ConfigurationError
from coatcheck.exchange import Channel
from coatcheck.faces import AsyncSession, Session
from coatcheck.flows import Device
from coatcheck.security.csrf import Verdict

__all__ = ["LONGEST", "Answer", "Ask", "DevicesPage"]

Served = Session[Any] | AsyncSession[Any]
LONGEST: Final = 4096
"""Octets of a form at most: ours have 200."""
_SAFE: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class Ask(NamedTuple):
    """What the page wants to know of a request."""

    method: str
    path: str
    """Below the place where the page is mounted: "/", "/end", "/end-others"."""
    headers: Mapping[str, str]
    """By lower-case names."""
    body: bytes = b""
    query: str = ""
    mount: str = ""
    """Where the page is mounted, as the browser sees it: "/account/devices"."""

    @property
    def wants_json(self) -> bool:
        return "application/json" in self.headers.get("accept", "")


class Answer(NamedTuple):
    """What to send."""

    status: int
    headers: Mapping[str, str]
    body: bytes


Act = Callable[[Served, Ask], Coroutine[Any, Any, Answer]]


class DevicesPage:
    """The page. `within`: how recent a login must be to end sessions. `login_url`: where those go who are not logged in;
    `reauth_url`: where to confirm that it is you (by default the same). `texts`, `lang`: another language.

    Raises ConfigurationError for a time that cannot be read, and for texts that are missing.
    """

    def __init__(
        self,
        *,
        within: str | timedelta = "10m",
        login_url: str = "/login",
        reauth_url: str | None = None,
        texts: Mapping[str, str] | None = None,
        lang: str = "en",
    ) -> None:
        self._needs = stepup.recent(within)
        self._login_url, self._reauth_url, self._lang = login_url, reauth_url or login_url, lang
        self._texts = {**TEXTS, **(texts or {})} if lang == "en" else dict(texts or {})
        missing, odd = TEXTS.keys() - self._texts.keys(), self._texts.keys() - TEXTS.keys()
        if missing or odd:
            raise ConfigurationError(
                f"texts= for lang={lang!r}: {', '.join(sorted(missing or odd))} "
                + ("is missing" if missing else "is no text of the page")
                + "; coatcheck.devices.TEXTS has every key"
            )

    def answer_now(self, session: Session[Any], ask: Ask) -> Answer:
        """The answer, in sync code."""
        return run_now(self.answer(session, ask))

    async def answer(self, session: Served, ask: Ask) -> Answer:
        """The answer, in async code. Raises StoreError."""
        act = self._find(ask)
        if isinstance(act, Answer):
            return act
        refused = stepup.NOT_LOGGED_IN if session.user_id is None else None
        if refused is None and ask.method == "POST":
            if not _is_believed(session, ask):
                return self._say(
                    ask, 403, {"error": "csrf"}, "refused", (f"{ask.mount}/", self._texts["back"])
                )
            refused = self._needs.refusal(session)
        if refused is None:
            return await act(session, ask)
        if refused.status == 401 and not ask.wants_json:
            return _redirect(self._login_url)
        link = (self._reauth_url, self._texts["confirm_link"])
        return self._say(ask, refused.status, dict(refused.detail), "confirm", link)

    def _find(self, ask: Ask) -> Answer | Act:
        routes: dict[str, tuple[str, Act]] = {
            "/": ("GET", self._list),
            "/end": ("POST", self._end),
            "/end-others": ("POST", self._end_others),
        }
        method, act = routes.get(ask.path or "/", (None, None))
        if method is None or act is None:
            return Answer(404, {**_SAFE, "Content-Type": "text/plain; charset=utf-8"}, b"not found\n")
        if method != ("GET" if ask.method == "HEAD" else ask.method):
            return Answer(405, {**_SAFE, "Allow": method}, b"")
        return act

    async def _list(self, session: Served, ask: Ask) -> Answer:
        devices, token = await _settled(session.devices()), _guard(session, ask).token()
        if ask.wants_json:
            rows = [_row(device, session.handle) for device in devices]
            return _json(200, {"devices": rows, "csrf_token": token})
        done = (parse_qs(ask.query).get("done") or [""])[0]
        text = listing(
            devices, session.handle, token=token, mount=ask.mount, lang=self._lang, texts=self._texts,
            done=int(done) if done.isascii() and done.isdigit() and len(done) < 4 else None,
        )  # fmt: skip
        return _html(200, text)

    async def _end(self, session: Served, ask: Ask) -> Answer:
        handle = _field(ask, "handle")
        if handle != session.handle:
            return self._ended(ask, int(await _settled(session.end_device(handle))))
        session.logout()
        return _json(200, {"ended": 1, "signed_out": True}) if ask.wants_json else _redirect(self._login_url)

    async def _end_others(self, session: Served, ask: Ask) -> Answer:
        return self._ended(ask, await _settled(session.end_others()))

    def _ended(self, ask: Ask, number: int) -> Answer:
        if ask.wants_json:
            return _json(200 if number or ask.path != "/end" else 404, {"ended": number})
        return _redirect(f"{ask.mount}/?done={min(number, 999)}")

    def _say(
        self, ask: Ask, status: int, error: Mapping[str, Any], what: str, link: tuple[str, str]
    ) -> Answer:
        if ask.wants_json:
            return _json(status, error)
        texts = self._texts
        return _html(status, notice(texts[f"{what}_title"], texts[what], link, lang=self._lang))


# ------------------------------------------------------------------------------------------------- whose form it is


_PROTECTION: Final = Protection()


def _is_believed(session: Served, ask: Ask) -> bool:
    """Whether a page of ours sent this form: it carries a token of this session, and no browser says otherwise."""
    guard = _guard(session, ask)
    finding = guard.judge()
    believed = (
        finding.verdict is not Verdict.REFUSED
        and _comes_from_here(session, ask)
        and guard.accepts(_field(ask, "csrf_token"))
    )
    if not believed:
        guard.refuse(finding)
    return believed


def _guard(session: Served, ask: Ask) -> Guard:
    """The rules and tokens that `CsrfMiddleware` has too, so that a form of this page passes there as well."""
    if session._exchange is None:
        raise ConfigurationError(
            "the devices page needs the session of a request, as a middleware of coatcheck's makes it"
        )
    return _PROTECTION.guard(session, ask.method, ask.query, lambda name: _fields(ask, name))


def _fields(ask: Ask, name: str) -> list[str]:
    value = ask.headers.get(name.lower())
    return [] if value is None else [value]


def _comes_from_here(session: Served, ask: Ask) -> bool:
    """Stricter than elsewhere, since this page knows where its forms are: same origin, and no other. It can only refuse: `Host`,
    which is the sender's word, proves nothing (checklist 94).
    """
    site, origin = ask.headers.get("sec-fetch-site"), ask.headers.get("origin")
    if site is not None:
        return site == "same-origin"
    scheme = "https" if session._channel is Channel.HTTPS else "http"
    return origin is None or origin == f"{scheme}://{ask.headers.get('host', '')}"


# ------------------------------------------------------------------------------------------------------- in and out


def _field(ask: Ask, name: str) -> str:
    """A field of the form, or of the JSON object; a token may come as a header too. "" if it is not there."""
    if name == "csrf_token" and "x-csrf-token" in ask.headers:
        return ask.headers["x-csrf-token"]
    kind = ask.headers.get("content-type", "").partition(";")[0].strip().lower()
    if len(ask.body) > LONGEST:
        return ""
    if kind == "application/json":
        try:
            return msgspec.json.decode(ask.body, type=dict[str, str]).get(name, "")
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return ""
    if kind != "application/x-www-form-urlencoded":
        return ""
    try:
        found = parse_qs(ask.body.decode("ascii"), max_num_fields=10).get(name, [])
    except ValueError:
        return ""
    return found[0] if len(found) == 1 else ""


def _row(device: Device, own: str) -> dict[str, Any]:
    return {
        "handle": device.handle,
        "browser": device.browser,
        "address": device.address,
        "signed_in_at": device.authenticated_at or device.created_at,
        "last_seen_at": device.last_seen_at,
        "this_device": device.handle == own,
    }


async def _settled(value: Any) -> Any:
    return await value if isawaitable(value) else value


def _html(status: int, text: str) -> Answer:
    return Answer(status, {**_SAFE, "Content-Type": "text/html; charset=utf-8"}, text.encode())


def _json(status: int, body: Mapping[str, Any]) -> Answer:
    return Answer(status, {**_SAFE, "Content-Type": "application/json"}, msgspec.json.encode(body))


def _redirect(where: str) -> Answer:
    return Answer(303, {**_SAFE, "Location": where}, b"")
