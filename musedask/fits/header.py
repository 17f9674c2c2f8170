"""What the headers of an exposure cube mean: which HDU is what, units, axes, time and place.

A card that cannot be understood is an error that names the file, the card and
its value; nothing is guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import astropy.units as u
from astropy.io import fits

from musedask.cube import FLUX_UNITS
from musedask.errors import FileError, InputError
from musedask.fits.cards import CARD
from musedask.fits.hdus import FitsFile, Hdu
from musedask.quiet import quiet
from musedask.sky import SkyProjection
from musedask.spectral import SpectralAxis

_ANGSTROM_PER = {
    "angstrom": 1.0, "angstroms": 1.0, "aa": 1.0, "a": 1.0, "0.1nm": 1.0, "0.1 nm": 1.0,
    "nm": 10.0, "um": 1e4, "micron": 1e4, "m": 1e10,
}  # fmt: skip
_MEDIA = {"AWAV": "air", "WAVE": "vacuum"}
_FRAMES = {"bary": "BARYCENT", "helio": "HELIOCEN", "geo": "GEOCENTR", "none": "TOPOCENT"}
"""muse_scipost's ``rvcorr`` -> SPECSYS."""
_POWER = re.compile(
    r"^(?:10\s*(?:\*\*|\^)\s*\(?\s*(?P<power>[+-]?\d+)\s*\)?"
    r"|(?P<number>[+-]?\d+(?:\.\d*)?(?:[eE][+-]?\d+)?)(?![\d.]))\s*\*?\s*"
)
_KEYWORD = 8
"""Characters of a keyword at most."""
_SKY_CARD = re.compile(
    rb"(?:WCSAXES|C(?:TYPE|UNIT|RVAL|DELT|ROTA)[12]|CRPIX[123]|CD[123]_[123]|PC[123]_[123]|"
    rb"PV[12]_[0-9]+|LONPOLE|LATPOLE|RADESYS|RADECSYS|EQUINOX|EPOCH)\Z"
)
_SMALLEST_STEP = 1e-9
"""Distance of two channels, relative to the wavelength; MUSE has 1e-4."""
_TEXT = re.compile(r"CTYPE|CUNIT|RADE")
"""Cards of the sky that hold a text; the others hold numbers."""
_LARGEST_POWER = -6
"""Flux of 1e-20 in units of 1e-6 has a variance of 1e-28, safe in float32; from there on it
comes near to where float32 ends (1e-38)."""


@dataclass(frozen=True)
class CubeHdus:
    """Which HDU of a file holds what."""

    primary: Hdu
    """PRIMARY, with or without data."""
    flux: Hdu
    """DATA."""
    variance: Hdu
    """STAT."""
    quality: Hdu | None
    """DQ, if there is one."""

    def get(self, *keys: str) -> object:
        """Value of the first of these cards that PRIMARY or DATA has; None if none has."""
        for hdu in (self.primary, self.flux):
            for key in keys:
                value = hdu.get(key)
                if value is not None and value != "":
                    return value
        return None

    def number(self, *keys: str) -> float:
        """Like :meth:`get`, but a number; NaN if there is none."""
        value = self.get(*keys)
        return float(value) if isinstance(value, int | float) else math.nan

    def word(self, *keys: str) -> str:
        """Like :meth:`get`, but a string; empty if there is none."""
        value = self.get(*keys)
        return "" if value is None else str(value)


def find_hdus(file: FitsFile) -> CubeHdus:
    """Tell flux, variance and quality of a cube apart.

    By EXTNAME (DATA, STAT or VAR, DQ) first. Flux may stand in PRIMARY, as
    CubEx and mypython write it. HDUs without names are taken in their order
    only if there is one way to do it: two of one shape, the variance second.

    Raises
    ------
    FileError
        If there is no cube, no variance, or more than one candidate, or if
        their shapes differ.
    """
    primary = file.hdus[0]
    cubes = [hdu for hdu in file.hdus if hdu.is_image and len(hdu.shape) == 3]
    unnamed = [hdu for hdu in cubes if hdu.name in ("", "PRIMARY")]
    flux = _named(cubes, "DATA")
    if flux is None and unnamed:
        flux = unnamed.pop(0)
    elif primary in unnamed and flux is not primary:
        raise FileError(
            f"{file.label}: has a cube in PRIMARY and another in DATA; remove one of them"
        )
    if flux is None:
        raise FileError(f"{file.label}: has no cube: {_contents(file)}; give an exposure cube")
    alike = [hdu for hdu in unnamed if hdu is not flux and hdu.shape == flux.shape]
    variance = _variance(file, flux, _named(cubes, "STAT", "VAR", "VARIANCE"), alike)
    quality = _named(cubes, "DQ")
    for hdu in (variance, quality):
        if hdu is not None and hdu.shape != flux.shape:
            raise FileError(
                f"{file.label}: {hdu.name or 'variance'} has the shape {hdu.shape}, DATA "
                f"{flux.shape}; they have to be one: make the cube again"
            )
    if 0 in flux.shape:
        raise FileError(f"{file.label}: the cube is empty, its shape is {flux.shape}")
    return CubeHdus(primary, flux, variance, quality)


def _variance(file: FitsFile, flux: Hdu, named: Hdu | None, alike: Sequence[Hdu]) -> Hdu:
    """The variance: by name, else the only HDU without a name that is like the flux."""
    if named is not None:
        if alike and flux.name != "DATA" and flux is not file.hdus[0]:
            raise FileError(
                f"{file.label}: {1 + len(alike)} HDUs without a name could be the flux; set "
                "EXTNAME = 'DATA' in the right one"
            )
        return named
    if len(alike) > 1:
        raise FileError(
            f"{file.label}: {len(alike)} HDUs without a name could be the variance; set "
            "EXTNAME = 'STAT' in the right one"
        )
    if not alike or flux.name == "DATA":
        raise FileError(
            f"{file.label}: has no STAT, the variance of each voxel ({_contents(file)}); use the "
            "cube with STAT that the pipeline wrote, or add a variance cube with EXTNAME = 'STAT'"
        )
    return alike[0]


def _named(cubes: Sequence[Hdu], *names: str) -> Hdu | None:
    """The first HDU with the first of these names that there is."""
    for name in names:
        for hdu in cubes:
            if hdu.name == name:
                return hdu
    return None


def _contents(file: FitsFile) -> str:
    """What HDUs a file has, for messages."""
    parts = [f"{hdu.name or 'HDU ' + str(hdu.index)} {hdu.shape}" for hdu in file.hdus]
    return "it has " + ", ".join(parts)


def sky_projection(hdu: Hdu, label: str) -> SkyProjection:
    """The celestial WCS of a cube.

    Only the cards of the sky go to astropy: no broken card elsewhere in a
    header of 1300 matters, and the wavelength axis is understood apart.

    Raises
    ------
    InputError
        If the cards cannot be understood, or describe a distortion.
    """
    keys = _sky_keys(hdu)
    has_cd = any(key.startswith("CD1_") or key.startswith("CD2_") for key in keys)
    if has_cd:
        # CD wins over what some tools leave beside it (the FITS standard forbids the mixture).
        keys = [key for key in keys if not key.startswith(("CDELT", "CROTA", "PC"))]
    header = fits.Header()
    for key in keys:
        value = hdu.get(key)
        try:
            # Of a number that is a text, astropy would take the default without a word.
            if value is None or not isinstance(value, str if _TEXT.match(key) else int | float):
                raise ValueError
            header.append((key, value), end=True)
        except ValueError:
            raise InputError(
                f"{label}: {key} has no value that can be read; repair that card"
            ) from None
    for key in ("CTYPE1", "CTYPE2"):
        if str(header.get(key, "")).endswith("-SIP"):
            raise InputError(f"{label}: {key} = {header[key]}: distortions are not read")
    for key in ("CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
        if key not in header:
            raise InputError(f"{label}: there is no {key}; a cube needs a celestial WCS")
    if not has_cd and not {"CDELT1", "CDELT2"} <= set(header):
        raise InputError(f"{label}: neither CD1_1... nor CDELT1, CDELT2 give the size of a pixel")
    return SkyProjection.from_header(header, label)


def _sky_keys(hdu: Hdu) -> list[str]:
    """Keywords of the cards of the sky, each once; to parse the other cards takes far longer."""
    starts = range(0, len(hdu.raw), CARD)
    names = [hdu.raw[i : i + _KEYWORD].partition(b"=")[0].strip().upper() for i in starts]
    return [key.decode() for key in dict.fromkeys(names) if _SKY_CARD.match(key)]


def spectral_axis(hdus: CubeHdus, label: str) -> SpectralAxis:
    """The wavelength axis of a cube, in Angstrom.

    Raises
    ------
    InputError
        If its type is not AWAV or WAVE, its unit no length, or a card is missing.
    """
    hdu = hdus.flux
    ctype = hdu.get("CTYPE3")
    if not ctype:
        raise InputError(
            f"{label}: there is no CTYPE3, so air and vacuum cannot be told apart; "
            "set it to 'AWAV' (air, as the pipeline does) or 'WAVE' (vacuum)"
        )
    if str(ctype).upper().startswith(("AWAV-", "WAVE-")):
        raise InputError(
            f"{label}: CTYPE3 = {ctype!r}: channels that are not evenly spaced in wavelength are "
            "not read; make the cube again without --lambdalog or resample=log"
            if str(ctype).upper().endswith("LOG")
            else f"{label}: CTYPE3 = {ctype!r} is not a linear axis; make the cube again"
        )
    if ctype not in _MEDIA:
        raise InputError(
            f"{label}: CTYPE3 = {ctype!r}, expected 'AWAV' (wavelength in air) or 'WAVE' "
            "(in vacuum); correct the card"
        )
    unit = str(hdu.get("CUNIT3") or "")
    factor = _ANGSTROM_PER.get(unit.lower())
    if factor is None or unit == "M":
        raise InputError(
            f"{label}: CUNIT3 = {unit!r}, expected 'Angstrom', 'nm' or 'm'; correct the card"
        )
    step = _spectral_step(hdu, label)
    first = _card(hdu, "CRVAL3", label) + (1.0 - _card(hdu, "CRPIX3", label)) * step
    if step <= 0 or first <= 0:
        raise InputError(
            f"{label}: wavelengths start at {first:g} {unit} with a step of {step:g}; "
            "both have to be positive: correct CRVAL3, CRPIX3, CD3_3"
        )
    last = first + hdu.shape[0] * step
    if not math.isfinite(last) or step < _SMALLEST_STEP * last:
        raise InputError(
            f"{label}: wavelengths start at {first:g} {unit} with a step of {step:g}, which cannot "
            "be told apart: correct CRVAL3, CRPIX3, CD3_3"
        )
    # 0.1 A steps in metres carry rounding; twelve digits hide it and keep everything else.
    first_angstrom = float(f"{first * factor:.12g}") if factor != 1.0 else first
    step_angstrom = float(f"{step * factor:.12g}") if factor != 1.0 else step
    return SpectralAxis(
        first_angstrom, step_angstrom, hdu.shape[0], _MEDIA[str(ctype)], _frame(hdus)
    )


def _spectral_step(hdu: Hdu, label: str) -> float:
    """Distance of two channels: CD3_3, or CDELT3 times PC3_3."""
    if hdu.get("CD3_3"):
        return _card(hdu, "CD3_3", label)
    if hdu.get("CDELT3") is None:
        raise InputError(
            f"{label}: neither CD3_3 nor CDELT3 gives the step in wavelength; add CD3_3"
        )
    scale = 1.0 if hdu.get("PC3_3") is None else _card(hdu, "PC3_3", label)
    return _card(hdu, "CDELT3", label) * scale


def _card(hdu: Hdu, key: str, label: str) -> float:
    """A card that has to be a finite number."""
    value = hdu.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InputError(
            f"{label}: {key} = {value!r} in {hdu.name or 'PRIMARY'}, expected a number; "
            "correct the card"
        )
    return float(value)


def _frame(hdus: CubeHdus) -> str:
    """SPECSYS; for cubes older than that card, what the recipe's ``rvcorr`` did."""
    for hdu in (hdus.flux, hdus.primary):
        frame = hdu.get("SPECSYS")
        if frame:
            return str(frame).upper()
    found = re.findall(r"ESO PRO REC(\d+) PARAM(\d+) NAME *= *'rvcorr *'", hdus.primary.text)
    if found:
        recipe, parameter = found[-1]
        value = str(hdus.primary.get(f"ESO PRO REC{recipe} PARAM{parameter} VALUE"))
        return _FRAMES.get(value, "unknown")
    return "unknown"


def cube_units(hdus: CubeHdus, label: str) -> str:
    """The units of the flux in the project's spelling.

    Raises
    ------
    InputError
        If BUNIT is missing or is no power of ten of erg/s/cm2/Angstrom, nor count.
    """
    bunit = str(hdus.flux.get("BUNIT") or hdus.primary.get("BUNIT") or "")
    if not bunit:
        raise InputError(
            f"{label}: there is no BUNIT, so the flux has no unit; set it in DATA to "
            f"{FLUX_UNITS!r} if the cube is flux-calibrated, else to 'count'"
        )
    units = canonical_units(bunit)
    if units is None:
        raise InputError(
            f"{label}: BUNIT = {bunit!r} is not a power of ten of erg/s/cm2/Angstrom, nor "
            "'count'; nothing is scaled here: convert the cube, or correct the card"
        )
    if units != "count" and _power_of(units) > _LARGEST_POWER:
        raise InputError(
            f"{label}: BUNIT = {bunit!r}: variances in these units are too small for float32; "
            f"divide DATA by 1e-20 and STAT by 1e-40 and set BUNIT = {FLUX_UNITS!r}"
        )
    return units


@lru_cache(maxsize=64)
def canonical_units(bunit: str) -> str | None:
    """One spelling for all spellings of one flux unit; None if it is none that is read.

    The pipeline's (``10**(-20)*erg/s/cm**2/Angstrom``), the ESO archive's
    (without the ``*``), mpdaf's (``10**-20 Angstrom-1 cm-2 erg s-1``) and
    astropy's (``1e-20 erg / (Angstrom s cm2)``) are the same.
    """
    text = bunit.strip()
    if text.lower() in ("count", "counts"):
        return "count"
    power = 0.0
    match = _POWER.match(text)
    if match:
        number = float(match["number"]) if match["number"] else 1.0
        if number <= 0:
            return None
        power = float(match["power"]) if match["power"] else math.log10(number)
        text = text[match.end() :]
    text = re.sub(r"\b(?:A|AA|ang|angstroms?)(?=\b|[-+\d])", "Angstrom", text, flags=re.IGNORECASE)
    try:
        with quiet(u.UnitsWarning):
            scale = u.Unit(text.replace("^", "**")).to(u.erg / u.s / u.cm**2 / u.AA)
    except (ValueError, TypeError, u.UnitConversionError):
        return None
    exponent = power + math.log10(scale)
    if abs(exponent - round(exponent)) > 1e-9:
        return None
    return FLUX_UNITS.replace("-20", str(round(exponent)))


def _power_of(units: str) -> int:
    """The power of ten of canonical flux units."""
    return int(units[units.index("(") + 1 : units.index(")")])


@dataclass(frozen=True)
class Carried:
    """What the pipeline has applied to a cube already, for its exposure."""

    ra_deg: float | None
    """Subtracted from RA: degrees of the coordinate, not multiplied by cos dec."""
    dec_deg: float | None
    """Subtracted from DEC, degrees."""
    flux_scale: float | None
    """What the data were multiplied by."""
    rotation_deg: float | None = None
    """Position angle that was taken out: what pixel tables were turned by, with the other sign."""


def carried(hdus: CubeHdus, date_obs: str) -> Carried:
    """Read ``ESO DRS MUSE OFFSETn DRA, DDEC`` and ``FLUX SCALEn`` of a product.

    In a cube of several exposures the ``n`` is the one whose ``OFFSETn
    DATE-OBS`` is the cube's own DATE-OBS (its first 23 characters, as the
    pipeline compares them); its other exposures have no row in a table of
    offsets. Without such cards ``n`` is 1.

    The pipeline has no rotation in its offsets. pymusepipe turns pixel tables
    by changing ``ESO INS DROT POSANG`` and keeps the old angle in ``ESO INS
    DROT POSANG ORIG``; both go on into the cube. A rotation that was applied
    in another way leaves no trace in the header.
    """
    primary = hdus.primary
    rotation = _rotation(primary)
    numbers = {
        int(n): str(primary.get(f"ESO DRS MUSE OFFSET{n} DATE-OBS") or "")
        for n in re.findall(r"ESO DRS MUSE OFFSET(\d+) DATE-OBS", primary.text)
    }
    n = next((i for i, date in numbers.items() if date[:23] == date_obs[:23]), 1)
    if numbers.get(n, date_obs)[:23] != date_obs[:23]:
        return Carried(None, None, None, rotation)
    values = (
        primary.get(f"ESO DRS MUSE {key}")
        for key in (f"OFFSET{n} DRA", f"OFFSET{n} DDEC", f"FLUX SCALE{n}")
    )
    ra, dec, scale = (
        float(v) if isinstance(v, int | float) and math.isfinite(v) else None for v in values
    )
    return Carried(ra, dec, scale, rotation)


def _rotation(primary: Hdu) -> float | None:
    """What pymusepipe took out of the position angle; it adds ROTANGLE to POSANG."""
    now, before = (primary.get(f"ESO INS DROT POSANG{end}") for end in ("", " ORIG"))
    if not (isinstance(now, int | float) and isinstance(before, int | float)):
        return None
    turned = (float(before) - float(now) + 180.0) % 360.0 - 180.0
    return turned if math.isfinite(turned) else None
