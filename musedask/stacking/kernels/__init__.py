"""What is compiled: a tile's planes out of the bytes of the exposures that touch it.

Upwards from :mod:`~musedask.stacking.kernels.memory`, rows by address, to
:mod:`~musedask.stacking.kernels.slab`, which is what Python calls.
"""
