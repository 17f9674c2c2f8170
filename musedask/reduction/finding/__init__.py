"""From folders to tagged frames, and what they lack for a reduction."""
