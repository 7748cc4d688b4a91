"""What the devices page says, in English: give a mapping with the same keys for another language. `{}` is filled in by name."""

from typing import Final

__all__ = ["TEXTS"]

TEXTS: Final = {
    "title": "Where you are signed in",
    "intro": "These browsers and apps are signed in to your account. Sign out any that you do not recognise,"
    " then change your password.",
    "this_device": "This device",
    "unknown": "Unknown browser",
    "signed_in": "Signed in",
    "last_seen": "Last seen",
    "from": "from {address}",
    "end": "Sign out",
    "end_label": "Sign out {device}, signed in {at}",
    "end_others": "Sign out everywhere else",
    "nowhere_else": "You are not signed in anywhere else.",
    "done_one": "One device was signed out.",
    "done_many": "{number} devices were signed out.",
    "done_none": "That device had already signed out.",
    "confirm_title": "Please confirm that it is you",
    "confirm": "Signing out devices needs a recent sign-in. Confirm your password, then come back to this page.",
    "confirm_link": "Confirm it is you",
    "refused_title": "This did not come from our page",
    "refused": "Nothing was changed. Open the page again, and try once more.",
    "back": "Back to your devices",
}
"""Key -> text. Every key is needed; the page says which is missing when it is made."""
