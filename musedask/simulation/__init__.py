"""A sky, observed again as MUSE exposures or raw frames whose truth is known."""

from musedask.simulation.exposure import ExposureSpec
from musedask.simulation.observe import Observation, observe
from musedask.simulation.psf import Psf
from musedask.simulation.raw import RawSpec, RawTruth, read_raw_truth, simulate_raw
from musedask.simulation.sets import observe_all, simulate_exposures, survey
from musedask.simulation.sky import AnalyticSky, Galaxy, Line, PointSource, Spectrum, true_cube
from musedask.simulation.truth import Truth, read_truth, write_truth

__all__ = [
    "AnalyticSky",
    "ExposureSpec",
    "Galaxy",
    "Line",
    "Observation",
    "PointSource",
    "Psf",
    "RawSpec",
    "RawTruth",
    "Spectrum",
    "Truth",
    "observe",
    "observe_all",
    "read_raw_truth",
    "read_truth",
    "simulate_exposures",
    "simulate_raw",
    "survey",
    "true_cube",
    "write_truth",
]
