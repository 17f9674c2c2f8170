"""What a stack does, apart from what it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from musedask.errors import InputError
from musedask.masks import ExposureMask
from musedask.stacking.geometry import RESAMPLINGS
from musedask.stacking.statistics import Clipping, MpdafClipping, rules_array, slots_of
from musedask.stacking.weights import Weights


@dataclass(frozen=True)
class StackOptions:
    """What a stack does, apart from what it is made of."""

    methods: tuple[str, ...] = ("median",)
    """Statistics: ``median``, ``mean``, ``clipped``, ``clipped_mpdaf``, each also
    with ``_odd`` or ``_even`` for every other exposure by DATE-OBS."""
    resampling: str = "exact"
    """``exact`` (area-weighted), ``bilinear``, ``nearest`` or ``lanczos3``."""
    weights: Weights = "exptime"
    """Weights of the means: ``exptime``, ``noise`` (the inverse of an exposure's typical
    variance), ``given`` (the exposure table's column), ``equal``, or numbers by DATE-OBS
    or name. A median takes none."""
    clipping: Clipping = field(default_factory=Clipping)
    """Rejection of ``clipped``."""
    mpdaf_clipping: MpdafClipping = field(default_factory=MpdafClipping)
    """Rejection of ``clipped_mpdaf``."""
    mask: ExposureMask = field(default_factory=ExposureMask)
    """Masks for all exposures; an exposure's own files from the exposure table are added."""
    subtract_background: bool = False
    """Subtract each exposure's median over unmasked spaxels in each channel."""
    flux_per: str = "auto"
    """Flux of an exposure is per ``spaxel`` of its own or per ``native`` spaxel; ``auto``
    takes the pipeline's habit, native, and warns where the two differ."""

    def __post_init__(self) -> None:
        if self.resampling not in RESAMPLINGS:
            raise InputError(
                f"resampling = {self.resampling!r}: it has to be one of {', '.join(RESAMPLINGS)}"
            )
        if self.flux_per not in ("auto", "spaxel", "native"):
            raise InputError(f"flux_per = {self.flux_per!r}: use 'auto', 'spaxel' or 'native'")
        slots_of(self.methods)
        rules_array(self.clipping, self.mpdaf_clipping)
