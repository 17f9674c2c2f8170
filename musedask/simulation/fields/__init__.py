"""Images of deep fields: a reference of the HST's kind and exposures whose offsets are known.

Arrays with the projections of their headers, no files: :func:`draw_case` draws a
case by number; the parts make one on purpose.
"""

from musedask.simulation.fields.blemishes import Blemishes
from musedask.simulation.fields.cases import KINDS, FieldCase, Kind, draw_case
from musedask.simulation.fields.exposure import (
    ExposureTruth,
    FieldExposure,
    FieldExposureSpec,
    observe_exposure,
)
from musedask.simulation.fields.image import SimulatedImage
from musedask.simulation.fields.limit import photon_limit
from musedask.simulation.fields.reference import ReferenceSpec, observe_reference
from musedask.simulation.fields.scene import Scene, cluster, galaxies, points

__all__ = [
    "KINDS",
    "Blemishes",
    "ExposureTruth",
    "FieldCase",
    "FieldExposure",
    "FieldExposureSpec",
    "Kind",
    "ReferenceSpec",
    "Scene",
    "SimulatedImage",
    "cluster",
    "draw_case",
    "galaxies",
    "observe_exposure",
    "observe_reference",
    "photon_limit",
    "points",
]
