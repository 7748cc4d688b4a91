"""Cookies and stores as other systems keep them, so that a session can be shared with them while both are at work."""
