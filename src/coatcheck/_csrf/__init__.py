"""CSRF protection brought to the frameworks: the rules of `security/csrf.py` over the session of a request, one file a framework."""
