"""The filter for exposures that is most like the one of a reference."""

from __future__ import annotations

import math
import re

from musedask.alignment.filters import WHITE, Filter, known_filters, top_hat

REFERENCE = "reference"
"""In the place of a filter's name: the one that is most like the reference's."""
RANGE_ANGSTROM = (4800.0, 9300.0)
"""What every mode of MUSE has, without its noisy ends."""
LEAST_INSIDE = 0.5
"""Share of a filter's light that has to be in that range."""
_ROUND_ANGSTROM = 25.0

BANDS = {
    "F435W": (4328.0, 298.0), "F438W": (4326.0, 197.0), "F439W": (4312.0, 202.0),
    "F450W": (4557.0, 404.0), "F475W": (4747.0, 420.0), "F502N": (5023.0, 29.0),
    "F547M": (5447.0, 206.0), "F550M": (5581.0, 163.0), "F555W": (5361.0, 360.0),
    "F606W": (5921.0, 672.0), "F625W": (6311.0, 415.0), "F658N": (6584.0, 37.0),
    "F675W": (6717.0, 368.0), "F689M": (6876.0, 207.0), "F702W": (6917.0, 587.0),
    "F763M": (7612.0, 229.0), "F775W": (7693.0, 434.0), "F791W": (7881.0, 519.0),
    "F814W": (8045.0, 652.0), "F845M": (8437.0, 261.0), "F850LP": (9033.0, 526.0),
    "F070W": (7039.0, 367.0), "F090W": (9022.0, 546.0),
}  # fmt: skip
"""Pivot wavelength and rms width, Angstrom, of filters of the HST (of ACS, else of WFC3 or
WFPC2) and the JWST, about: what HST's headers have as PHOTPLAM and PHOTBW. Cameras differ:
WFPC2 has (6001, 638) for F606W, (7996, 646) for F814W."""
_LETTERS = {
    "B": "Johnson_B", "V": "Johnson_V", "R": "Cousins_R", "I": "Cousins_I",
    "g": "SDSS_g", "r": "SDSS_r", "i": "SDSS_i", "z": "SDSS_z",
}  # fmt: skip
"""Observatories write V, V_BESSEL, r.SDSS, HSC-R..."""


def filter_like(band: str) -> Filter:
    """Find the filter that is most like a band, within the range of MUSE.

    A band of the HST or JWST becomes the top hat of its pivot wavelength and
    rms width (its width is sqrt(12) of the latter); of the others the known
    curve is taken, cut where MUSE ends.

    Parameters
    ----------
    band
        Its name as headers have it (FILTER, FILTER1, PHOTMODE...).

    Returns
    -------
    Filter
        ``white`` if the name says nothing, or less than half of the filter's
        light is in the range.

    Examples
    --------
    >>> filter_like("ACS WFC1 F814W MJD#56789.1").name
    '6925-9175'
    >>> filter_like("r.SDSS").name, filter_like("F160W").name
    ('SDSS_r', 'white')
    """
    found = _named(band)
    if found is None:
        return Filter(WHITE)
    inside = found.within(*RANGE_ANGSTROM)
    if inside is None or inside.integral < LEAST_INSIDE * found.integral:
        return Filter(WHITE)
    return inside


def _named(band: str) -> Filter | None:
    """The filter of this name, whole."""
    for name, curve in known_filters().items():
        if name.lower() == band.strip().lower():
            return curve
    words = re.split(r"[^A-Za-z0-9]+", band)
    for word in words:
        if word.upper() in BANDS:
            pivot, rms = BANDS[word.upper()]
            low, high = (
                _ROUND_ANGSTROM * round((pivot + sign * math.sqrt(3.0) * rms) / _ROUND_ANGSTROM)
                for sign in (-1.0, 1.0)
            )
            return top_hat(low, high)
    letters = [word for word in words if word in _LETTERS]
    return known_filters()[_LETTERS[letters[0]]] if letters else None
