"""Throttled logins, and limits for any route, on the session's own store. docs/throttling.md has the manual."""

from coatcheck.security.password import PasswordCheck
from coatcheck.throttling.attempt import AsyncAttempt, Attempt
from coatcheck.throttling.login import LoginThrottle
from coatcheck.throttling.route import RateLimit

__all__ = ["AsyncAttempt", "Attempt", "LoginThrottle", "PasswordCheck", "RateLimit"]
