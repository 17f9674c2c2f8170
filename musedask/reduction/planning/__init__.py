"""From frames to a checked graph of jobs; nothing is read or written."""
