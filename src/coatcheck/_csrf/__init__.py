"""CSRF protection brought to the frameworks: the rules of `security/csrf.py` over a request's session, one file a framework."""
