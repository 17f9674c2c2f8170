"""Exposure cubes to a deep cube."""
