"""WebSockets that were opened with an access token: closed when the token ends, or its login does (checklist 210)."""

from typing import Any, Final

__all__ = ["POLICY_VIOLATION", "can_answer"]

POLICY_VIOLATION: Final = 1008
"""The close code (RFC 6455 section 7.4.1) where credentials are not good, or no longer."""


def can_answer(scope: Any) -> bool:
    """Whether the server can answer a WebSocket's handshake like a request (ASGI's `websocket.http.response`)."""
    return "websocket.http.response" in (scope.get("extensions") or ())
