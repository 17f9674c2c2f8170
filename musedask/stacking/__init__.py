"""Exposure cubes onto one grid, and their statistics."""

from musedask.stacking.options import StackOptions
from musedask.stacking.stack import stack, stack_with
from musedask.stacking.statistics import Clipping, MpdafClipping

__all__ = ["Clipping", "MpdafClipping", "StackOptions", "stack", "stack_with"]
