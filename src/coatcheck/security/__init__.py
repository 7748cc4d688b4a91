"""What guards the way to a session, without a framework and without I/O: one file a threat."""
