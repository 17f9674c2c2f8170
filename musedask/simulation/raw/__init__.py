"""Raw MUSE frames and static tables that the real recipes accept, with known truth."""

from musedask.simulation.raw.faults import KINDS, Fault, parse_fault
from musedask.simulation.raw.night import RawFrame
from musedask.simulation.raw.simulate import simulate_raw
from musedask.simulation.raw.spec import RawSpec
from musedask.simulation.raw.truth import RawTruth, barycentric_ratio, read_raw_truth

__all__ = [
    "KINDS",
    "Fault",
    "RawFrame",
    "RawSpec",
    "RawTruth",
    "barycentric_ratio",
    "parse_fault",
    "read_raw_truth",
    "simulate_raw",
]
