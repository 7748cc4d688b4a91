"""What Django's error pages and the mails to ADMINS show of a request: not the session's cookie.

Django hides the cookie called SESSION_COOKIE_NAME there; ours may have another name.
"""

from collections.abc import Collection
from typing import Any

from django.views.debug import get_default_exception_reporter_filter

__all__ = ["hiding"]


def hiding(names: Collection[str]) -> Any:
    """The project's filter for reports (DEFAULT_EXCEPTION_REPORTER_FILTER), which hides cookies of these names too."""
    usual: Any = get_default_exception_reporter_filter()
    kind = type(usual)
    if not hasattr(kind, "cleanse_setting"):
        return usual  # the project's own, which shows what it likes

    def cleanse_setting(self: Any, key: Any, value: Any) -> Any:
        return self.cleansed_substitute if key in names else kind.cleanse_setting(self, key, value)

    return type(kind.__name__, (kind,), {"cleanse_setting": cleanse_setting, "__module__": kind.__module__})()
