"""How well offsets are measured: simulated exposures whose offset is known, many methods.

``python -m benchmarks alignment --help`` says how it is run.
"""
