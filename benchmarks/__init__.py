"""Benchmarks of musedask beside others that do the same, on data made on the spot.

``python -m benchmarks --help`` says how they are run.
"""
