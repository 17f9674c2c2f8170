"""Is this a place where a night can be reduced? Looked at before a night is lost on it."""
