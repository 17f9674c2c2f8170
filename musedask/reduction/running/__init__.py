"""A plan on a cluster: tasks, progress, resume, and what became of it."""
