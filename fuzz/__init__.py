"""Damaged input for every reader of musedask: each case ends in a result or in one clear error.

``python -m fuzz --help`` says how a campaign is run; a case is known by its
reader, the campaign's seed and its number, and is the same on each machine.
"""
